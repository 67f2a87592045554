"""The whole job, from input file to output files in its own process, as a user starts it, and its stages."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from studies.speed import child
from studies.speed.clock import Cost, Row
from studies.speed.machine import machine
from studies.speed.scans import SIZES, scan_file

PART = "scan"
LIMIT_S = {"standard": 60.0, "thick": 25.0}
LIMIT_MIB, GROWTH = 3 * 1024.0, 1.2
FILTERED, TAPS = 230, 13
"""One-dimensional filters that the default runs over the model grid, and their mean length (from a profile)."""
PASSES = 10
"""How often every voxel of the scan is read or written: check, blocks, grid, border, labels, figures, files."""


@dataclass(frozen=True)
class Job:
    """One line of the table: a scan of `scans.SIZES`, and the options of `segment`."""

    size: str
    options: tuple[str, ...] = ()
    title: str = "default"


JOBS = (
    Job("standard"),
    Job("standard", ("--fast",), "default, --fast"),
    Job("thick"),
    Job("thin"),
    Job("standard", ("--method", "combined"), "combined (with the network)"),
)


@dataclass(frozen=True)
class Measured:
    """Repeats of one job: cost of the process, peak memory (MiB), and the seconds of run.json's stages."""

    cost: Cost
    peak_mib: float
    stages: dict[str, float]
    voxels: int
    grid: int


def measure(scan: Path, options: Sequence[str], repeats: int) -> Measured:
    """Segment a file repeatedly, each time from a cold start."""
    costs, stages, run = [], [], {}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            costs.append(child.measured("segment", "-i", str(scan), "-o", f"{folder}/out", "-q", *options))
            run = json.loads((Path(folder) / "out" / "run.json").read_text())
        stages.append(run["seconds"] | {"start and the rest": costs[-1].wall_s - sum(run["seconds"].values())})
    voxels, grid = 1, 1
    for n in run["grid"]["shape_zyx"]:
        voxels *= n
    for n in run["scan"]["model_grid"]["shape"]:
        grid *= n
    return Measured(
        Cost(tuple(c.wall_s for c in costs), tuple(c.cpu_s for c in costs)),
        max(c.peak_mib for c in costs),
        {name: round(statistics.median(s[name] for s in stages), 2) for name in stages[0]},
        voxels,
        grid,
    )


def rows(folder: Path, jobs: Sequence[Job] = JOBS, repeats: int = 3) -> list[Row]:
    """A row for each job and one for each stage of the first; scans are made in `folder` once."""
    libraries = child.libraries_mib()
    found: list[Row] = []
    standard: Measured | None = None
    for job in jobs:
        done = measure(scan_file(folder, job.size), job.options, repeats)
        standard = standard or done
        found.append(_row(job, done, libraries, standard))
        if job is jobs[0]:
            found += _stages(done)
    return found


def _row(job: Job, done: Measured, libraries: float, standard: Measured) -> Row:
    size, own = SIZES.get(job.size), done.peak_mib - libraries
    limit = LIMIT_S.get(job.size) if job.title == "default" else None
    targets, met = [], []
    if limit:
        targets.append(f"{limit:g} s")
        met.append(done.cost.seconds <= limit)
    if job.title == "default" and job.size == "thin":
        targets.append(f"memory at most {GROWTH:g} x 300 slices")
        met.append(done.peak_mib <= GROWTH * standard.peak_mib)
    elif limit:
        targets.append("3 GiB above the libraries")
        met.append(own <= LIMIT_MIB)
    traffic, work = PASSES * 4 * done.voxels + FILTERED * 8 * done.grid, FILTERED * 2 * TAPS * done.grid
    return Row(
        part=PART,
        what=f"{size.title if size else 'small chest'}: {job.title}",
        cost=done.cost,
        amount=done.voxels / 1e6,
        unit="Mvoxel",
        peak_mib=round(own, 1),
        floor_s=None if "network" in job.title else machine().floor_s(work, traffic),
        floor=f"{traffic / 1e9:.1f} GB over the bandwidth or {work / 1e9:.0f} GFLOP of filters over the peak",
        target=", ".join(targets) or None,
        met=all(met) if met else None,
        note=f"peak {done.peak_mib:.0f} MiB, {libraries:.0f} of it interpreter and libraries",
    )


def _stages(done: Measured) -> list[Row]:
    total = done.cost.seconds
    return [
        Row(
            part="stage",
            what=name,
            cost=Cost((seconds,), ()),
            note=f"{100 * seconds / total:.0f} % of the job",
            target="at most 60 % of the job",
            met=seconds <= 0.6 * total,
        )
        for name, seconds in done.stages.items()
    ]
