"""What is to be done: one task for each scan of a folder, and which of them are finished already."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from diffseglung import __version__
from diffseglung.io.studies import Study, find_studies
from diffseglung.lungs.external_tools import Source
from diffseglung.output import Products
from diffseglung.platform import atomic_files, serialization
from diffseglung.platform.config import SegmentConfig
from diffseglung.platform.errors import ConfigError

try:
    import fcntl
except ImportError:  # Windows: two runs on one folder are not told apart
    fcntl = None  # type: ignore[assignment]

RECORD = "run.json"
"""Written last into a scan's folder: where it is and tells of this task, the scan is finished."""
LOCK = ".lock"
OWN_NAMES = ("cohort", "cohort_redcap", "redcap_data_dictionary", "index", "failed")
"""Files of the cohort itself in the output folder, without their endings; no scan's folder takes their names."""


@dataclass(frozen=True)
class Order:
    """How every scan is labelled, the same in each worker.

    output: folder of the results.  model: weights file, None for the installed one.  model_hash: its SHA-256.
    named: whether the method was asked for by name.  threads: of each worker.  keep: identifiers (`provenance`).
    """

    output: Path
    config: SegmentConfig
    model: Path | None = None
    model_hash: str | None = None
    named: bool = False
    device: str = "auto"
    threads: int = 1
    products: Products = field(default_factory=Products)
    keep: bool = False


@dataclass(frozen=True, eq=False)
class Task:
    """One scan.  name: of its folder, unique;  mark: what its result must tell of to count as finished."""

    name: str
    study: Study
    mark: dict[str, Any]

    @property
    def source(self) -> str:
        """Where the scan lies, without what names the patient."""
        return self.study.told(str(self.study.path))


def plan(
    source: Path, order: Order, *, mask_suffix: str | None = None, tell: Callable[[str], None] | None = None
) -> list[Task]:
    """A task for each scan at or below `source`, by name.  Raises InputError where there is none.

    tell: as in `find_studies`.
    """
    tasks = []
    for study in find_studies(source, mask_suffix=mask_suffix, keep=order.keep, tell=tell):
        if order.output.resolve() in study.path.resolve().parents:
            continue  # results of an earlier run, below the input
        own = study.name.split(".")[0].lower() in OWN_NAMES
        name = f"{study.name}-{hashlib.sha256(study.name.encode()).hexdigest()[:8]}" if own else study.name
        tasks.append(Task(name, study, mark(study, order)))
    return tasks


@contextmanager
def alone(output: Path) -> Iterator[None]:
    """Let one command at a time work on an output folder; what a killed one left half-made there goes.

    Raises ConfigError while another one is at work there. The system gives the lock back however a process ends.
    """
    output.mkdir(parents=True, exist_ok=True)
    with (output / LOCK).open("w") as lock:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(lock.fileno()).st_nlink == 0:
                    raise BlockingIOError  # another run ended, and took its lock away, between the two lines above
            except OSError as cause:
                raise ConfigError(
                    f"another run is at work in {output}", remedy="wait until it has ended, or choose another folder"
                ) from cause
        atomic_files.sweep(output, everybody=True)
        try:
            yield
        finally:
            atomic_files.sweep(output)
            (output / LOCK).unlink(missing_ok=True)


def mark(study: Study, order: Order) -> dict[str, Any]:
    """What decides a result: the scan's files by size and time of change, settings, model, tool, and the version."""
    files = list(dict.fromkeys(item.path for item in study.slices)) or [study.path]
    states = [path.stat() for path in (*files, *((study.mask,) if study.mask else ())) if path.exists()]
    return {
        "input": {
            "path": hashlib.sha256(os.fsencode(study.path.resolve())).hexdigest()[:16],  # a path may name a patient
            "files": len(files),
            "bytes": sum(s.st_size for s in states if s),
            "changed_ns": max((s.st_mtime_ns for s in states), default=0),
        },
        "settings": json.loads(json.dumps(order.config.to_dict())),
        "model": order.model_hash,
        "lung_tool": Source(order.config.lungs, fast=order.config.fast).record(),
        "outputs": json.loads(json.dumps(asdict(order.products))) | {"identifiers": order.keep},
        "version": __version__,
    }


def is_finished(task: Task, output: Path) -> bool:
    """Whether the task's folder holds a complete result of this very scan with these settings."""
    record = read_record(output / task.name) or {}
    return record.get("task") == task.mark and not record.get("failed")


def read_record(folder: Path) -> dict[str, Any] | None:
    """run.json of a scan's folder; None where there is none that can be read."""
    try:
        record = serialization.read(folder / RECORD)
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None
