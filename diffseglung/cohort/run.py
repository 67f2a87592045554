"""Label the scans of a cohort on Dask workers: one scan per free worker, with retries and a time limit."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from diffseglung.cohort.plan import Order, Task
from diffseglung.io import read_mask
from diffseglung.output import write
from diffseglung.output.record import RECORD, Origin
from diffseglung.pipeline import Segmenter
from diffseglung.platform.config import PatienceConfig
from diffseglung.platform.errors import ConfigError, DiffSegLungError, OutputError
from diffseglung.platform.runtime import own_gpu

Client = Any
Future = Any
"""Types of Dask distributed, which is not typed."""

POLL_S = 0.1
"""Seconds between checks for results."""


@dataclass(eq=False)
class _Running:
    task: Task
    attempt: int
    begun: float


def run_tasks(
    client: Client, tasks: Sequence[Task], order: Order, patience: PatienceConfig,
    tell: Callable[[TaskResult | None], None],
) -> list[TaskResult]:  # fmt: skip
    """The result of every task, once each.

    tell: called with each result when it arrives, and with None a few times a second in between.
    A task that is lost with its worker is repeated up to `retries` times. A task that takes too long is stopped by
    killing its process, which Dask's nanny restarts.  Raises ConfigError if no worker appears.
    """
    waiting: deque[tuple[Task, int]] = deque((task, 0) for task in tasks)
    running: dict[Future, _Running] = {}
    outcomes: list[TaskResult] = []
    client.run(_ready)
    seen_workers = time.monotonic()
    while waiting or running:
        places = sum(client.nthreads().values())
        seen_workers = time.monotonic() if places else seen_workers
        if time.monotonic() - seen_workers > patience.workers_s:
            raise ConfigError(f"no worker in {patience.workers_s:.0f} s", remedy="check the scheduler's workers")
        while waiting and len(running) < places:
            task, attempt = waiting.popleft()
            key = f"{task.name}-attempt{attempt}-{time.monotonic_ns()}"
            future = client.submit(_on_worker, task, order, key=key, pure=False)
            running[future] = _Running(task, attempt, time.monotonic())
        ended = [future for future in running if future.done()]
        for future in ended:
            one = running.pop(future)
            outcome, problem = _result(future)
            if problem is not None and one.attempt < patience.retries:
                waiting.append((one.task, one.attempt + 1))
                continue
            outcome = outcome or _lost(one.task, str(problem))
            outcomes.append(outcome)
            tell(outcome)
        for future in [f for f, one in running.items() if time.monotonic() - one.begun > patience.timeout_s]:
            one = running.pop(future)
            _stop(client, future)
            text = f"took longer than {patience.timeout_s:g} s and was stopped (try: a larger --timeout)"
            outcomes.append(TaskResult(one.task.name, one.task.source, text, patience.timeout_s))
            tell(outcomes[-1])
        if not ended:
            tell(None)
            time.sleep(POLL_S)
    return outcomes


def _on_worker(task: Task, order: Order) -> TaskResult:
    """`label`, on this worker's own GPU if there are several."""
    from distributed import get_worker

    name = str(get_worker().name)
    return label(task, order, own_gpu(order.device, int(name)) if name.isdigit() else order.device)


def _result(future: Future) -> tuple[TaskResult | None, str | None]:
    """The result of a finished future, or its problem, such as a worker lost before the result was fetched."""
    if future.status == "finished":
        try:
            return future.result(), None
        except Exception as error:
            return None, _problem(error)
    return None, _problem(future.exception() if future.status == "error" else None)


def _problem(error: BaseException | None) -> str:
    """Text for an error of a task or of Dask; None means that the scheduler forgot the task."""
    if type(error).__name__ == "KilledWorker":
        return "its worker was lost (try: more memory for each worker, fewer --workers)"
    return f"{type(error).__name__}: {error}" if error else "the scheduler lost it (try: run the same command again)"


def _lost(task: Task, problem: str) -> TaskResult:
    return TaskResult(task.name, task.source, task.study.told(problem))


def _stop(client: Client, future: Future) -> None:
    """End a task by killing its process, if a nanny can start another."""
    holders = [address for address, keys in client.processing().items() if future.key in keys]
    future.cancel()
    if holders:
        with contextlib.suppress(ValueError, OSError, TimeoutError):  # without a nanny it runs on, unobserved
            client.run(_kill, workers=holders, nanny=True)


def _kill(dask_worker: Any) -> None:
    """On a nanny: kill its worker's process, which it then restarts."""
    os.kill(dask_worker.process.pid, signal.SIGKILL)


def _ready() -> None:
    """Unpickling this function on a worker imports the libraries, so the first scan's time does not include that."""


@dataclass(frozen=True)
class TaskResult:
    """The outcome of a scan.  error: one sentence and its remedy, None if it was labelled."""

    name: str
    source: str
    error: str | None = None
    seconds: float = 0.0


def label(task: Task, order: Order, device: str | None = None) -> TaskResult:
    """Label one scan and write its folder; returns the outcome, without voxels.

    A scan that cannot be labelled gives an outcome with an error, since a retry would not help. Unexpected errors are
    raised, and may be retried.  device: overrides that of the order (workers share the GPUs of a machine).
    """
    begin = time.perf_counter()
    torch.set_num_threads(order.threads)
    try:
        scan = task.study.read()
        mask = read_mask(task.study.mask) if task.study.mask else None
        origin = Origin(task.study.path, task.study.mask, task.name, order.keep)
        segmenter = _segmenter(order, device or order.device)
        result = segmenter.of_file(scan, origin, mask, probabilities=order.products.probabilities)
    except (DiffSegLungError, OSError) as error:
        return _failed(task, error, begin)
    result.run["task"] = task.mark
    folder = order.output / task.name
    (folder / RECORD).unlink(missing_ok=True)  # invalidates the old files until the new ones are complete
    try:
        write(result, folder, order.products, frames=scan.frames)
    except OutputError as error:
        return _failed(task, error, begin)
    return TaskResult(task.name, task.source, None, time.perf_counter() - begin)


def _failed(task: Task, error: Exception, begin: float) -> TaskResult:
    """The error as one line, without names that identify the patient."""
    return TaskResult(task.name, task.source, task.study.told(str(error)), time.perf_counter() - begin)


@cache
def _segmenter(order: Order, device: str) -> Segmenter:
    """The segmenter, loaded once per worker."""
    return Segmenter.load(order.model, config=order.config, device=device, named=order.named)
