"""Resume state: everything an interrupted run needs to go on as if nothing had happened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from diffseglung.errors import CheckpointError, ConfigError
from diffseglung.model import checkpoint

FORMAT = 1
FREE = ("iterations", "sample_every", "save_every", "log_every", "recompute")
"""Settings that may change when a run is continued; the learning rate follows a new length from then on."""


@dataclass(frozen=True, eq=False)
class State:
    """last.pt: tensors and plain values only.

    weights, ema, optimiser: state dicts.  iteration: the last one done.  settings: {group: {name: value}}.
    """

    weights: dict[str, Any]
    ema: dict[str, Any]
    optimiser: dict[str, Any]
    iteration: int
    settings: dict[str, dict[str, Any]]


def save_state(path: Path, state: State) -> None:
    """Write to a neighbour and rename: the previous state stays until the new one is complete."""
    checkpoint.save_pt(path, {"format": FORMAT, **vars(state)})


def load_state(path: Path) -> State:
    """Read last.pt (weights only, on the CPU)."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content.pop("format") != FORMAT:
            raise ValueError("written by another version")
        return State(**content)
    except Exception as cause:  # a damaged or foreign file can fail anywhere in the reader
        reason = next(iter(str(cause).splitlines()), type(cause).__name__)[:120]
        raise CheckpointError(
            f"{path} is not the state of a training run ({reason})",
            remedy="remove it to start the run again, or choose another --results_dir",
        ) from cause


def check_unchanged(saved: dict[str, dict[str, Any]], present: dict[str, dict[str, Any]]) -> None:
    """Raise ConfigError naming the first setting that differs from the interrupted run's.

    Settings that only one of them knows (a newer version) are not compared.
    """
    if saved.keys() != present.keys():
        raise ConfigError(
            f"the run in this folder has other settings ({', '.join(saved)}) than this one ({', '.join(present)})",
            remedy="choose another --results_dir: one folder holds one stage of one run",
        )
    for group in saved:
        before, now = saved[group], present[group]
        for name in sorted(before.keys() & now.keys()):
            if name not in FREE and before[name] != now[name]:
                raise ConfigError(
                    f"{name} is {now[name]!r}, but the run in this folder began with {before[name]!r}",
                    remedy=f"give {name} its old value to continue, or choose another --results_dir",
                )
