"""The work on a cohort: hand out scans, one to each free worker; try again, stop what takes too long, lose nothing."""

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

from diffseglung.cohort.plan import RECORD, Order, Task
from diffseglung.io import read_mask
from diffseglung.output import write
from diffseglung.output.record import Origin
from diffseglung.pipeline import Segmenter
from diffseglung.platform.config import PatienceConfig
from diffseglung.platform.errors import ConfigError, DiffSegLungError, OutputError
from diffseglung.platform.runtime import own_gpu

Client = Any
Future = Any
"""Of Dask distributed, which carries no types."""

POLL_S = 0.1
"""How often results are looked for."""


@dataclass(eq=False)
class _Running:
    task: Task
    attempt: int
    begun: float


def run_tasks(
    client: Client, tasks: Sequence[Task], order: Order, patience: PatienceConfig,
    tell: Callable[[TaskResult | None], None],
) -> list[TaskResult]:  # fmt: skip
    """Every task's outcome, each once.

    tell: called with each outcome as it comes, and with None while nothing does, some times a second.
    A task that is lost with its worker is given out again, `retries` times; one that takes too long is stopped with
    the process that it runs in, which Dask's nanny starts anew.  Raises ConfigError when no worker comes.
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
            raise ConfigError(f"no worker came in {patience.workers_s:.0f} s", remedy="check the scheduler's workers")
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
    """`label`, on the GPU that belongs to this worker where there are several."""
    from distributed import get_worker

    name = str(get_worker().name)
    return label(task, order, own_gpu(order.device, int(name)) if name.isdigit() else order.device)


def _result(future: Future) -> tuple[TaskResult | None, str | None]:
    """What a future that has ended holds, or what went wrong: also when its worker is lost before it is fetched."""
    if future.status == "finished":
        try:
            return future.result(), None
        except Exception as error:
            return None, _problem(error)
    return None, _problem(future.exception() if future.status == "error" else None)


def _problem(error: BaseException | None) -> str:
    """In words, an error of a task or of Dask; None where it forgot the task."""
    if type(error).__name__ == "KilledWorker":
        return "its worker was lost (try: more memory for each worker, fewer --workers)"
    return f"{type(error).__name__}: {error}" if error else "the scheduler lost it (try: run the same command again)"


def _lost(task: Task, problem: str) -> TaskResult:
    return TaskResult(task.name, task.source, task.study.told(problem))


def _stop(client: Client, future: Future) -> None:
    """End a task for good: with the process that it runs in, where a nanny can start another."""
    holders = [address for address, keys in client.processing().items() if future.key in keys]
    future.cancel()
    if holders:
        with contextlib.suppress(ValueError, OSError, TimeoutError):  # without a nanny it runs on, but nobody waits
            client.run(_kill, workers=holders, nanny=True)


def _kill(dask_worker: Any) -> None:
    """On a nanny: end its worker's process; it starts another."""
    os.kill(dask_worker.process.pid, signal.SIGKILL)


def _ready() -> None:
    """Reaching a worker, this loads what it needs, so that the first scan's time is its own."""


@dataclass(frozen=True)
class TaskResult:
    """What became of a scan.  error: one sentence and its remedy, None where all went well."""

    name: str
    source: str
    error: str | None = None
    seconds: float = 0.0


def label(task: Task, order: Order, device: str | None = None) -> TaskResult:
    """Label one scan into its folder.

    A scan that cannot be labelled is an outcome with an error: trying again would not help. What nobody foresaw is
    raised, and may be tried again.  device: overrides that of the order (workers share the GPUs of a machine).
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
    (folder / RECORD).unlink(missing_ok=True)  # until the new files are complete, the old ones do not count
    try:
        write(result, folder, order.products, frames=scan.frames)
    except OutputError as error:
        return _failed(task, error, begin)
    return TaskResult(task.name, task.source, None, time.perf_counter() - begin)


def _failed(task: Task, error: Exception, begin: float) -> TaskResult:
    """The error as one line, without what names the patient."""
    return TaskResult(task.name, task.source, task.study.told(str(error)), time.perf_counter() - begin)


@cache
def _segmenter(order: Order, device: str) -> Segmenter:
    """Loaded once in each worker."""
    return Segmenter.load(order.model, config=order.config, device=device, named=order.named)
