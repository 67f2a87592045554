"""What a worker does with one scan: read, label, write. It returns a few words, never voxels."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache

import torch

from diffseglung.cohort.plan import RECORD, Order, Task
from diffseglung.io import read_mask
from diffseglung.output import write
from diffseglung.output.provenance import Origin
from diffseglung.pipeline import Segmenter
from diffseglung.platform.errors import DiffSegLungError, OutputError


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
