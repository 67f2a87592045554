"""Estimates with intervals as Markdown and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from typing import Any

from diffseglung.labels import TISSUES
from studies.bootstrap import Estimate
from studies.summary import EVERY, Row

LABELS = {
    "physics": "Physics rule in context",
    "physics_no_fusion": "Physics rule in context, without fusion",
    "physics_fast": "Physics rule in context, --fast",
    "rule": "Physics rule alone",
    "seeded": "Physics-seeded dense descriptors",
    "combined": "Physics-seeded dense descriptors + distilled student",
    "diffusion": "Physics-seeded diffusion features, distilled",
    "attention": "DAAM, adapted",
    "attention_base": "DAAM, adapted, features not distilled",
    "published": "Published recipe in full",
    "diffusion_base": "Physics-seeded diffusion features, not distilled",
    "published_base": "Published recipe, features not distilled",
    "simulated": "Taught on simulated lesions (reference)",
    "simulated_combined": "Taught on simulated lesions + distilled student (reference)",
    "kmeans_radiomics": "K-means on radiomics",
    "hu_bands_slicer": "HU bands of a 3D Slicer extension",
    "hu_bands_median": "HU bands after a median filter",
    "fixed_mixture": "Fixed HU mixture",
}
"""Key of a candidate -> its title in tables; other candidates are shown by their key."""
CSV_HEADER = ("method", "stratum", "class", "metric", "value", "low", "high", "cases")
PERCENT = {"dice_pooled", "dice_mean", "recall", "surface_dice_2mm", "false_lesion_phantom", "false_lesion_real", "ece"}
OVERALL = (
    *((label.title, label.name, "dice_pooled") for label in TISSUES),
    ("Mean", EVERY, "dice_mean"), ("HD95 mm", EVERY, "hd95_mm_mean"), ("Surface Dice", EVERY, "surface_dice_2mm"),
    ("False lesion %, phantoms", EVERY, "false_lesion_phantom"), ("real", EVERY, "false_lesion_real"),
    ("ECE %", EVERY, "ece"),
)  # fmt: skip
"""Columns of the main table: title, class, metric."""
Index = dict[tuple[str, str, str, str], Estimate]


def title_of(key: str) -> str:
    """Title of a candidate in tables; its key if it has none."""
    return LABELS.get(key, key)


def index(rows: Iterable[Row]) -> Index:
    """(method, stratum, class, metric) -> estimate."""
    return {(r.method, r.stratum, r.tissue, r.metric): r.estimate for r in rows}


def cell(estimate: Estimate | None, *, scale: float = 1.0, sign: str = "") -> str:
    """A figure with its interval, or a dash."""
    if estimate is None or not math.isfinite(estimate.value):
        return "-"
    text = f"{scale * estimate.value:{sign}.1f}"
    if math.isfinite(estimate.low):
        text += f" [{scale * estimate.low:{sign}.1f}, {scale * estimate.high:{sign}.1f}]"
    return text


def csv_text(rows: Iterable[Row]) -> str:
    """One line per estimate; unknown numbers are empty."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CSV_HEADER)
    for r in rows:
        numbers = [
            "" if not math.isfinite(v) else round(v, 6) for v in (r.estimate.value, r.estimate.low, r.estimate.high)
        ]
        writer.writerow([r.method, r.stratum, r.tissue, r.metric, *numbers, r.estimate.cases])
    return buffer.getvalue()


def markdown(rows: list[Row], header: dict[str, Any]) -> str:
    """table.md: how it was made, the main table, tables by stratum and lesion model, and paired differences."""
    found = index(rows)
    methods = list(dict.fromkeys(r.method for r in rows))
    parts = ["# Benchmark", _header(header), "## All cases", _explain(), _main(found, methods)]
    for dimension in ("kind", "condition", "severity", "novelty"):
        sets = list(dict.fromkeys(r.stratum for r in rows if r.stratum.startswith(f"{dimension}=")))
        if sets:
            parts += [f"## By {dimension}: mean Dice, %", _by_set(found, methods, sets, (EVERY, "dice_mean"))]
    models = list(dict.fromkeys((r.stratum, r.tissue) for r in rows if r.stratum.startswith("model=")))
    if models:
        parts += ["## By lesion model: recall of its class, %", _by_model(found, methods, models)]
    if any(r.metric.startswith("minus:") for r in rows):
        parts += ["## Paired differences of the mean Dice, percentage points", _differences(rows)]
    return "\n\n".join(parts) + "\n"


def grid(head: list[str], body: list[list[str]]) -> str:
    """A Markdown table, the first column left, the others right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _header(header: dict[str, Any]) -> str:
    return "\n".join(f"- {name}: {value if value is not None else 'unknown'}" for name, value in header.items())


def _explain() -> str:
    return (
        "Dice in %, pooled over the voxels of all cases; in brackets the 95 % bootstrap interval over cases. HD95 and\n"
        "surface Dice at 2 mm are means over cases and lesion classes. A dash means unknown or not applicable."
    )


def _scale(metric: str) -> float:
    return 100.0 if metric in PERCENT else 1.0


def _main(found: Index, methods: list[str]) -> str:
    body = [
        [title_of(m), *(cell(found.get((m, EVERY, t, metric)), scale=_scale(metric)) for _, t, metric in OVERALL)]
        for m in methods
    ]
    return grid(["method", *(title for title, _, _ in OVERALL)], body)


def _by_set(found: Index, methods: list[str], sets: list[str], figure: tuple[str, str]) -> str:
    def size(stratum: str) -> str:
        first = found.get((methods[0], stratum, *figure))
        return f"{stratum.split('=')[1]} ({first.cases if first else 0})"

    body = [[title_of(m), *(cell(found.get((m, s, *figure)), scale=_scale(figure[1])) for s in sets)] for m in methods]
    return grid(["method (cases)", *map(size, sets)], body)


def _by_model(found: Index, methods: list[str], models: list[tuple[str, str]]) -> str:
    body = []
    for stratum, tissue in models:
        figures = [found.get((m, stratum, tissue, "recall")) for m in methods]
        count = next((f.cases for f in figures if f), 0)
        body.append([f"{stratum.split('=')[1]} ({count})", *(cell(f, scale=100) for f in figures)])
    return grid(["lesion model (cases)", *map(title_of, methods)], body)


def _differences(rows: list[Row]) -> str:
    body = [
        [
            title_of(r.method), title_of(r.metric.removeprefix("minus:")), r.stratum.replace("=", ": "),
            cell(r.estimate, scale=100, sign="+"), str(r.estimate.cases),
        ]
        for r in rows if r.metric.startswith("minus:")
    ]  # fmt: skip
    return grid(["method", "minus", "cases", "difference", "number"], body)
