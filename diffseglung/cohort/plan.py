"""Plan the work: one task for each scan of a folder, and which of them are finished."""

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
from diffseglung.output.record import load
from diffseglung.platform import atomic_files
from diffseglung.platform.config import SegmentConfig
from diffseglung.platform.errors import ConfigError

try:
    import fcntl
except ImportError:  # Windows: two runs on one folder are not prevented
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
OWN_NAMES = ("cohort", "cohort_redcap", "redcap_data_dictionary", "index", "failed")
"""Names, without endings, of the cohort's own files in the output folder; folders of scans do not use them."""


@dataclass(frozen=True)
class Order:
    """How to label every scan; the same in all workers.

    output: folder of the results.  model: weights file, None for the installed one.  model_hash: its SHA-256.
    named: whether the user chose the method.  threads: per worker.  keep: write identifiers (`output.record.Origin`).
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
    """One scan.  name: of its folder, unique.  mark: what the record of a finished result must contain."""

    name: str
    study: Study
    mark: dict[str, Any]

    @property
    def source(self) -> str:
        """The path of the scan, without names that identify the patient."""
        return self.study.told(str(self.study.path))


def plan(
    source: Path, order: Order, *, mask_suffix: str | None = None, tell: Callable[[str], None] | None = None
) -> list[Task]:
    """A task for each scan at or below `source`, sorted by name.  Raises InputError if there is none.

    tell: as in `find_studies`.
    """
    tasks = []
    for study in find_studies(source, mask_suffix=mask_suffix, keep=order.keep, tell=tell):
        if order.output.resolve() in study.path.resolve().parents:
            continue  # results of an earlier run in the input folder
        own = study.name.split(".")[0].lower() in OWN_NAMES
        name = f"{study.name}-{hashlib.sha256(study.name.encode()).hexdigest()[:8]}" if own else study.name
        tasks.append(Task(name, study, mark(study, order)))
    return tasks


@contextmanager
def alone(output: Path) -> Iterator[None]:
    """Lock an output folder and remove partial files that a killed run left there.

    Raises ConfigError if another run holds the lock. The system releases it however a process ends.
    """
    output.mkdir(parents=True, exist_ok=True)
    with (output / LOCK).open("w") as lock:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(lock.fileno()).st_nlink == 0:
                    raise BlockingIOError  # another run removed the lock file between opening and locking
            except OSError as cause:
                raise ConfigError(
                    f"another run is using {output}", remedy="wait until it has ended, or choose another folder"
                ) from cause
        atomic_files.sweep(output, everybody=True)
        try:
            yield
        finally:
            atomic_files.sweep(output)
            (output / LOCK).unlink(missing_ok=True)


def mark(study: Study, order: Order) -> dict[str, Any]:
    """All that determines a result: size and modification time of the files, settings, model, tool and version."""
    files = list(dict.fromkeys(item.path for item in study.slices)) or [study.path]
    states = [path.stat() for path in (*files, *((study.mask,) if study.mask else ())) if path.exists()]
    return {
        "input": {
            "path": hashlib.sha256(os.fsencode(study.path.resolve())).hexdigest()[:16],  # may identify the patient
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
    """Whether the task's folder holds a complete result of this scan with these settings."""
    record = load(output / task.name) or {}
    return record.get("task") == task.mark and not record.get("failed")
