"""Rows as a table (bench.md) and as JSON (bench.json), with the machine they were measured on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from diffseglung import __version__
from diffseglung.platform import atomic_files
from studies.speed.clock import Row
from studies.speed.machine import Machine

TITLES = {
    "scan": "What a scan costs",
    "stage": "The stages of the default on the standard scan",
    "lungs": "The lungs",
    "published": "Compared with the published method",
    "network": "The network",
    "sampling": "Drawing samples",
    "radiomics": "The radiomic teacher",
    "mixture": "The mixture",
    "training": "Training",
}
HEAD = "| what | seconds (range) | rate | peak MiB | peer | ratio | floor, s | target | met | note |"


def table(rows: Sequence[Row], machine: Machine) -> str:
    """Markdown: the machine, then one table for each part."""
    m = machine
    lines = [
        f"{m.processor}, {m.cores} cores, {m.memory_gib:g} GiB; peak of a matrix product {m.gflops:g} GFLOP/s in "
        f"float32 and {m.gflops_bf16:g} in bfloat16, {m.gb_per_s:g} GB/s copied; torch {m.torch}, numpy {m.numpy}; "
        f"diffseglung {__version__}, {datetime.now(UTC).date().isoformat()}.",
    ]
    for part in [*TITLES, *sorted({row.part for row in rows} - TITLES.keys())]:
        here = [row for row in rows if row.part == part]
        if here:
            lines += ["", f"### {TITLES.get(part, part)}", "", HEAD, "|---|---:|---:|---:|---|---:|---:|---|---|---|"]
            lines += [_line(row) for row in here]
    floors = list(dict.fromkeys(f"- {row.what}: {row.floor}" for row in rows if row.floor))
    return "\n".join([*lines, "", "Floors:", *floors, ""]) if floors else "\n".join([*lines, ""])


def _line(row: Row) -> str:
    low, high = row.cost.spread
    seconds = _short(row.cost.seconds) + (f" ({_short(low)} to {_short(high)})" if len(row.cost.wall_s) > 1 else "")
    rate = f"{row.rate:,.3g} {row.unit}/s" if row.rate is not None else ""
    cells = [
        row.what,
        seconds,
        rate,
        "" if row.peak_mib is None else f"{row.peak_mib:.0f}",
        row.peer or "",
        "" if row.ratio is None else f"{row.ratio:.3g} x",
        "" if row.floor_s is None else _short(row.floor_s),
        row.target or "",
        {None: "", True: "yes", False: "**no**"}[row.met],
        row.note,
    ]
    return "| " + " | ".join(cells) + " |"


def _short(seconds: float) -> str:
    return f"{seconds:.0f}" if seconds >= 100 else f"{seconds:.3g}"


def write(folder: Path, rows: Sequence[Row], machine: Machine) -> list[Path]:
    """bench.md and bench.json in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine.to_dict(), "version": __version__, "rows": [row.to_dict() for row in rows]}
    texts = {"bench.md": table(rows, machine), "bench.json": json.dumps(content, indent=1) + "\n"}
    for name, text in texts.items():
        atomic_files.write_text(folder / name, text)
    return [folder / name for name in texts]
