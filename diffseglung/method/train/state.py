"""Resume state: everything needed to continue an interrupted run as if it had not been interrupted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from diffseglung.method import checkpoint
from diffseglung.method.ema import Ema
from diffseglung.platform.errors import CheckpointError, ConfigError, DiffSegLungError
from diffseglung.platform.file_bounds import require_stored
from diffseglung.platform.resources import is_out_of_memory

FORMAT = 1
Settings = dict[str, dict[str, Any]]
"""Group -> name -> value."""
FREE = ("iterations", "sample_every", "save_every", "log_every", "recompute")
"""Settings that may change when a run is continued; the learning rate then follows the new length."""


@dataclass(frozen=True, eq=False)
class State:
    """Contents of last.pt: tensors and plain values only.

    weights, ema, optimiser: state dicts.  iteration: the last completed.  settings: {group: {name: value}}.
    """

    weights: dict[str, Any]
    ema: dict[str, Any]
    optimiser: dict[str, Any]
    iteration: int
    settings: dict[str, dict[str, Any]]


def save_state(path: Path, state: State) -> None:
    """Write atomically: the previous state remains until the new one is complete."""
    checkpoint.save_pt(path, {"format": FORMAT, **vars(state)})


def load_state(path: Path) -> State:
    """Read last.pt (weights only, on the CPU)."""
    with damage(path):
        require_stored(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content.pop("format") != FORMAT:
            raise ValueError("written by another version")
        return State(**content)


def restore(path: Path, present: Settings, module: nn.Module, optimiser: torch.optim.Optimizer, ema: Ema) -> int:
    """Load the state of last.pt into module, optimiser and average; returns its iteration.

    Raises ConfigError if its settings differ from `present`, CheckpointError for a damaged or foreign file.
    """
    state = load_state(path)
    with damage(path):
        check_unchanged(state.settings, present)
        module.load_state_dict(state.weights)
        _restore_moments(optimiser, state.optimiser)
        ema.restore(state.ema)
        if type(state.iteration) is not int or state.iteration < 0:
            raise ValueError(f"its iteration is {state.iteration!r}")
    return state.iteration


def _restore_moments(optimiser: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Load Adam's moments in the memory layout and dtype that each weight has on this device.

    A fused update iterates over weight and moments in memory order, so their layouts must be equal. The optimiser keeps
    its own settings, which also depend on the device.
    """
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    if saved["state"].keys() != set(range(len(weights))):
        raise ValueError("the optimiser belongs to another network")
    for index, kept in saved["state"].items():
        if set(kept) != {"step", "exp_avg", "exp_avg_sq"} or kept["step"].shape != ():
            raise ValueError("the optimiser is not Adam")
        if not 0 <= float(kept["step"]) < 2**31:
            raise ValueError(f"the optimiser has made {float(kept['step']):g} steps")
        if any(kept[name].shape != weights[index].shape for name in ("exp_avg", "exp_avg_sq")):
            raise ValueError("the optimiser belongs to another network")
    optimiser.load_state_dict({"state": saved["state"], "param_groups": optimiser.state_dict()["param_groups"]})
    for weight, kept in optimiser.state.items():
        for name in ("exp_avg", "exp_avg_sq"):
            kept[name] = torch.empty_like(weight).copy_(kept[name])


@contextmanager
def damage(path: Path) -> Iterator[None]:
    """Turn any error of a damaged or foreign file, except lack of memory, into a CheckpointError."""
    try:
        yield
    except DiffSegLungError:
        raise
    except Exception as cause:
        if is_out_of_memory(cause):
            raise
        raise CheckpointError(
            f"{path} is not the state of a training run ({checkpoint.first_line(cause)})",
            remedy="remove it to restart the run, or choose another --results_dir",
        ) from cause


def check_unchanged(saved: Settings, present: Settings) -> None:
    """Raise ConfigError naming the first setting that differs from the interrupted run.

    Settings that exist in only one of them (another version) are not compared.
    """
    if saved.keys() != present.keys():
        raise ConfigError(
            f"the run in this folder has other settings ({', '.join(saved)}) than this one ({', '.join(present)})",
            remedy="choose another --results_dir: one folder is for one stage of one run",
        )
    for group in saved:
        before, now = saved[group], present[group]
        for name in sorted(before.keys() & now.keys()):
            if name not in FREE and before[name] != now[name]:
                raise ConfigError(
                    f"{name} is {now[name]!r}, but the run in this folder was started with {before[name]!r}",
                    remedy=f"set {name} to its old value to continue, or choose another --results_dir",
                )
