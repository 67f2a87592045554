"""The training loop: one for all stages, which differ in the objective and the draws passed in.

Interrupted and continued training equals uninterrupted training: the draws of an iteration depend only on the seed
(`data`), and last.pt has everything else.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from diffseglung.method import checkpoint
from diffseglung.method.card import ModelCard
from diffseglung.method.ema import Ema
from diffseglung.method.train.data import Batch, BatchSource, prefetch
from diffseglung.method.train.journal import Journal
from diffseglung.method.train.objective import LossOutput, Objective
from diffseglung.method.train.state import State, restore, save_state
from diffseglung.platform.config import TrainConfig
from diffseglung.platform.errors import TrainingError
from diffseglung.platform.runtime import Runtime

STATE = "last.pt"
PATIENCE_S = 3.0
"""Seconds after a request to stop in which further requests are ignored."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """Output folder, settings and callbacks of a run.

    name:     file of the averaged weights, ddpm_base.pt, ddpm_distill.pt or ddpm_segment.pt.
    card:     model card of those weights; the iteration is filled in at each save.
    settings: {group: {name: value}}, kept in last.pt and compared when the run is continued.
    start:    iteration a new run begins after (--start_step).
    sample:   called with the objective (averaged weights) and the iteration, to draw qualitative samples.
    watch:    called after each update with the iteration and the journal line, if one was written.
    """

    folder: Path
    config: TrainConfig
    runtime: Runtime
    name: str
    card: ModelCard
    settings: dict[str, dict[str, Any]]
    start: int = 0
    sample: Callable[[nn.Module, int], None] | None = None
    watch: Callable[[int, dict[str, float | int] | None], None] = lambda iteration, line: None


@dataclass(frozen=True)
class Ending:
    """How a run ended: the last iteration, and whether it was stopped early."""

    iteration: int
    stopped: bool


@dataclass
class Tally:
    """Outcomes since the last journal line."""

    outcomes: list[LossOutput] = field(default_factory=list)
    since: float = field(default_factory=time.perf_counter)
    waited: float = 0.0
    """Seconds that the network waited for a batch."""

    def line(self, runtime: Runtime) -> dict[str, float]:
        """Means over the interval and over all processes."""
        each = torch.cat([outcome.patches.float() for outcome in self.outcomes])
        quarter = (torch.cat([outcome.level for outcome in self.outcomes]) * 4).ceil().long().clamp(1, 4) - 1
        sums = torch.zeros(8, device=each.device).index_add_(0, quarter, each)
        sums.index_add_(0, quarter + 4, torch.ones_like(each))
        last = self.outcomes[-1]
        second = next((name for name in last.terms if name != "lambda"), None)
        seconds = [torch.as_tensor(outcome.terms[second]) for outcome in self.outcomes] if second else []
        extra = torch.stack(seconds).float().mean().reshape(1) if seconds else sums.new_full((1,), math.nan)
        values = runtime.summed(torch.cat([sums, extra.to(sums.device)])).double().cpu()
        line = {last.measure: float(values[:4].sum() / values[4:8].sum())}
        if last.measure == "diffusion":
            line |= {f"diffusion_q{i + 1}": float(values[i] / values[4 + i]) for i in range(4)}
        line["loss"] = line[last.measure]
        if second:
            line[second] = float(values[8]) / runtime.world_size
            line["lambda"] = float(last.terms["lambda"])
            line["loss"] += line["lambda"] * line[second]
        return line


class Trainer:
    """Optimiser, weight average and journal of one run; `fit` runs it."""

    def __init__(self, objective: Objective, draws: BatchSource, run: Run) -> None:
        self.objective = objective.to(run.runtime.device)
        channels_last(self.objective)
        self.objective.train()
        self.objective.network.recompute = run.config.recompute
        self.draws, self.run, self.config = draws, run, run.config
        fused = run.runtime.fuses_optimiser
        self.optimiser = torch.optim.Adam(self.objective.parameters(), lr=self.config.lr, fused=fused)
        self.ema = Ema(self.objective, self.config.ema)
        self.iteration = run.start
        if (run.folder / STATE).is_file():
            parts = self.objective, self.optimiser, self.ema
            self.iteration = restore(run.folder / STATE, run.settings, *parts)
        self.journal = Journal(run.folder, start=self.iteration) if run.runtime.is_first else None
        self.seconds = self.journal.seconds if self.journal else 0.0
        self.module: nn.Module = self.objective
        if run.runtime.world_size > 1:
            dist.barrier()
            self.module = DistributedDataParallel(self.objective)

    def fit(self) -> Ending:
        """Update until the last iteration or a request to stop (Ctrl-C, SIGTERM); the state is saved either way."""
        if self.journal:
            self.journal.settings({**self.run.settings, "card": self.run.card.to_dict()})
        last, stopped, tally = self.config.iterations, False, Tally()
        batches = prefetch(self._batches(self.iteration + 1))
        with stop_requests() as asked:
            while self.iteration < last and not stopped:
                self.iteration += 1
                asked_at = time.perf_counter()
                batch = next(batches)
                tally.waited += time.perf_counter() - asked_at
                norm = self._update(batch, tally)
                stopped = self._agreed(asked.is_set())
                ends = stopped or self.iteration == last
                saves = ends or self.iteration % self.config.save_every == 0
                line = None
                if saves or self.iteration % self.config.log_every == 0:
                    line, tally = self._log(tally, norm), Tally()
                self.run.watch(self.iteration, line)
                every = self.config.sample_every
                if self.run.sample and every and not stopped and (self.iteration % every == 0 or ends):
                    self._sample()  # before the state is saved, so that a continued run does not repeat them
                    tally.since = time.perf_counter()
                if saves:
                    self._save()
                    tally.since = time.perf_counter()
        batches.close()
        if self.journal:
            self.journal.close()
        return Ending(self.iteration, stopped and self.iteration < last)

    def _batches(self, first: int) -> Iterator[Sequence[Batch]]:
        """Micro-batches of the iterations from `first` to the last."""
        pinned = self.run.runtime.on_gpu  # so that copying to the device overlaps with the network
        for iteration in range(first, self.config.iterations + 1):
            batches = [self.draws.batch(iteration, micro) for micro in range(self.config.accumulate)]
            yield [batch.pinned() for batch in batches] if pinned else batches

    def _update(self, batches: Sequence[Batch], tally: Tally) -> float:
        """One optimiser update over all micro-batches; returns the gradient norm before clipping."""
        runtime, parallel = self.run.runtime, self.module
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.iteration, self.config, self.run.start)
        self.optimiser.zero_grad(set_to_none=True)
        batches = [batch.to(runtime.device) for batch in batches]
        contrasts = self.objective.contrasts(batches, self.iteration, runtime)
        for micro, (batch, contrast) in enumerate(zip(batches, contrasts, strict=True)):
            waits = isinstance(parallel, DistributedDataParallel) and micro < len(batches) - 1
            with parallel.no_sync() if waits else nullcontext():  # type: ignore[operator]
                with runtime.autocast():
                    outcome: LossOutput = parallel(batch, self.iteration, contrast)
                (outcome.loss / len(batches)).backward()  # type: ignore[no-untyped-call]
            tally.outcomes.append(replace(outcome, loss=outcome.loss.detach()))
        limit = self.config.clip_norm or math.inf
        norm: Tensor = nn.utils.clip_grad_norm_(self.objective.parameters(), limit)
        if not bool(torch.isfinite(norm)):
            raise TrainingError(
                f"the gradient is not finite at iteration {self.iteration}",
                remedy="continue from last.pt in a new folder with a smaller --lr, or with --precision fp32",
            )
        self.optimiser.step()
        self.ema.update(self.objective)
        return float(norm)

    def _agreed(self, asked: bool) -> bool:
        """Whether any process was asked to stop."""
        if self.run.runtime.world_size == 1:
            return asked
        vote = torch.tensor(int(asked), device=self.run.runtime.device)
        dist.all_reduce(vote, dist.ReduceOp.MAX)
        return bool(vote)

    def _log(self, tally: Tally, norm: float) -> dict[str, float | int]:
        """Add a line to the journal and return it."""
        elapsed = time.perf_counter() - tally.since
        patches = sum(len(outcome.patches) for outcome in tally.outcomes) * self.run.runtime.world_size
        self.seconds += elapsed
        line: dict[str, float | int] = {"iteration": self.iteration, **tally.line(self.run.runtime)}
        line |= {"grad_norm": norm, "lr": learning_rate(self.iteration, self.config, self.run.start)}
        line |= {"seconds": round(self.seconds, 3), "patches_per_second": round(patches / max(elapsed, 1e-9), 3)}
        line["waiting"] = round(min(tally.waited / max(elapsed, 1e-9), 1.0), 4)
        if self.journal:
            self.journal.write(line)
        return line

    def _save(self) -> None:
        """last.pt, the averaged weights with their card, and the curve; written by the first process."""
        if self.journal:
            keep = self.objective.exported()
            weights = {name: value for name, value in self.ema.weights.items() if name.startswith(keep)}
            training = {**self.run.card.training, "seconds": round(self.seconds), **self._last_losses()}
            card = replace(self.run.card, iteration=self.iteration, training=training)
            checkpoint.save(self.run.folder / self.run.name, weights, card)
            state = State(
                weights=self.objective.state_dict(),
                ema=self.ema.state(),
                optimiser=self.optimiser.state_dict(),
                iteration=self.iteration,
                settings=self.run.settings,
            )
            save_state(self.run.folder / STATE, state)
            self.journal.draw()
        if self.run.runtime.world_size > 1:
            dist.barrier()

    def _last_losses(self) -> dict[str, float]:
        """Means over the last 20 journal lines, for the model card."""
        lines = self.journal.lines[-20:] if self.journal else []
        means = {}
        for name in ("diffusion", "contrastive", "segmentation"):
            values = [line[name] for line in lines if line.get(name) is not None]
            if values:
                means[f"{name}_loss"] = round(sum(v for v in values if v is not None) / len(values), 5)
        return means

    def _sample(self) -> None:
        """Qualitative samples of the averaged weights, by the first process."""
        if self.journal and self.run.sample:
            with self.ema.applied_to(self.objective):
                self.run.sample(self.objective, self.iteration)
            self.objective.train()
        if self.run.runtime.world_size > 1:
            dist.barrier()


def channels_last(module: nn.Module) -> None:
    """Store convolution kernels channels last, which is faster on GPUs (no gain measured on CPUs).

    Kernels of one voxel are unchanged: both layouts are equal, and their strides would break distributed training.
    """
    for parameter in module.parameters():
        if parameter.ndim == 5 and max(parameter.shape[2:]) > 1:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)


def learning_rate(iteration: int, config: TrainConfig, start: int = 0) -> float:
    """Constant as published, or a half cosine from lr to 5 % of it over the run, which starts after `start`.

    >>> config = TrainConfig(lr=1e-4, lr_schedule="cosine", iterations=1000)
    >>> [round(learning_rate(i, config), 7) for i in (0, 500, 1000)]
    [0.0001, 5.25e-05, 5e-06]
    """
    if config.lr_schedule == "constant":
        return config.lr
    share = min((iteration - start) / max(config.iterations - start, 1), 1.0)
    return config.lr * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * share)))


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """An event that SIGINT or SIGTERM sets within the block; a SIGINT more than PATIENCE_S later interrupts at once.

    The delay is for torchrun, which forwards a Ctrl-C that its processes have already received from the terminal.
    """
    asked, first = threading.Event(), 0.0
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if asked.is_set() and number == signal.SIGINT and time.monotonic() - first > PATIENCE_S:
            raise KeyboardInterrupt
        first = first if asked.is_set() else time.monotonic()
        asked.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
