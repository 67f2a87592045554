"""The published files of a benchmark: tables, JSON, plots and the page of pictures."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from diffseglung import __version__
from diffseglung.platform import atomic_files
from diffseglung.platform.config import SegmentConfig
from diffseglung.platform.runtime import processor_name
from studies import page, plots, summary, tables
from studies.cases import VERSION
from studies.report import rounded
from studies.runner import Job, Plan, file_hash
from studies.summary import Results, Row

SEED = 0
"""Seed of the resampling."""


def publish(output: Path, jobs: list[Job], plan: Plan, about: dict[str, Any]) -> list[Path]:
    """Write table.md, table.csv, benchmark.json, the plots and index.html into `output`; returns their paths.

    about: what the caller adds to the header (command line, list, notes).
    """
    cases, found = summary.read_results(jobs, [candidate.key for candidate in plan.candidates])
    rows = [
        *summary.figures(cases, found, seed=SEED),
        *summary.by_model(cases, found, seed=SEED),
        *summary.differences(cases, found, seed=SEED),
    ]
    header = describe(plan, len(jobs), _sources(found)) | about
    index, methods = tables.index(rows), list(found)
    shown = [key for key in methods if not key.endswith("_no_fusion")]
    default = SegmentConfig().method if SegmentConfig().method in found else methods[0]
    files: dict[str, bytes | None] = {
        "table.md": tables.markdown(rows, header).encode(),
        "table.csv": tables.csv_text(rows).encode(),
        "benchmark.json": _record(header, rows, cases, found).encode(),
        "dice.png": plots.dice(index, methods),
        "reliability.png": plots.reliability(found),
        "agreement.png": plots.agreement(found[default], index, default),
        "index.html": page.write(cases, found, shown, "Benchmark: pictures").encode(),
    }
    return [atomic_files.write_bytes(output / name, content) for name, content in files.items() if content is not None]


def describe(plan: Plan, cases: int, sources: set[str]) -> dict[str, Any]:
    """The header: what ran, where and when; None for unknown values."""
    model = plan.model if any(e.needs_model and not e.base for e in plan.candidates) else None
    current = sources <= {plan.sources}
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "package": f"diffseglung {__version__}",
        "commit": _commit(),
        "results": "all made by this code" if current else "some were made by other versions of the code and kept",
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "GPU": _gpu(),
        "device": plan.device,
        "model SHA-256": file_hash(model) if model else "no model",
        "base model SHA-256": file_hash(plan.base_model) if plan.base_model else "no model",
        "catalogue version": VERSION,
        "cases": cases,
        "seed of the resampling": SEED,
    }


def _sources(found: Results) -> set[str]:
    """Hashes of the code that made the results."""
    return {result["key"]["sources"] for results in found.values() for result in results}


def _record(header: dict[str, Any], rows: list[Row], cases: list[dict[str, Any]], found: Results) -> str:
    """benchmark.json: header, every figure, and every case's scores."""
    figures = [dataclasses.asdict(row) for row in rows]
    about = [{k: v for k, v in case.items() if k != "slice"} for case in cases]
    each = {
        key: {c["name"]: {k: v for k, v in r.items() if k != "slice"} for c, r in zip(cases, results, strict=True)}
        for key, results in found.items()
    }
    record = rounded({"header": header, "figures": figures, "cases": about, "results": each})
    return json.dumps(record, allow_nan=False) + "\n"


def _commit() -> str | None:
    """The commit of the clone, followed by a plus if files were changed."""
    folder = Path(__file__).parents[1]
    if not (folder / ".git").exists():
        return None
    try:
        words = ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=20, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _gpu() -> str:
    """The GPU as PyTorch reports it, through `runtime`."""
    from diffseglung.platform.runtime import choose_device

    return str(choose_device("auto")).replace("cpu", "none")
