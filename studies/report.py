"""Scores as JSON, as CSV, and as rows of a table."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

from diffseglung.labels import TISSUES
from diffseglung.platform import atomic_files
from diffseglung.platform.serialization import readable

HEADER = (
    "method", *(f"{label.title} Dice" for label in TISSUES), "Mean Dice", "Lesion HD95 mm", "Lesion surface Dice",
    "False lesion %",
)  # fmt: skip
COLUMNS = (
    "dice", "hd95_mm", "surface_dice_2mm", "true_ml", "predicted_ml", "error_ml",
)  # fmt: skip


def rounded(value: Any) -> Any:
    """The value ready for JSON; unknown numbers become null."""
    if isinstance(value, dict):
        return {readable(str(k)): rounded(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(v) for v in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return readable(value) if isinstance(value, str) else value


def table(methods: dict[str, dict[str, Any]]) -> list[list[str]]:
    """One row per method in the order of HEADER, from `scores.pool`; Dice in percent, an unknown number as a dash."""
    rows = []
    for name, pooled in methods.items():
        classes = pooled["classes"]
        lesions = [classes[label.name] for label in TISSUES[1:]]
        row = [name, *(_percent(classes[label.name]["dice_pooled"]) for label in TISSUES)]
        row.append(_percent(pooled["mean_dice_pooled"]))
        row.append(_number(_mean([c["hd95_mm_mean"] for c in lesions])))
        row.append(_percent(_mean([c["surface_dice_2mm_mean"] for c in lesions])))
        row.append(_percent(pooled["false_lesion_fraction"]))
        rows.append(row)
    return rows


def csv_text(cases: dict[str, dict[str, dict[str, Any]]]) -> str:
    """method -> case -> `scores.score_case`: one line for each method, case and class."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["method", "case", "class", *COLUMNS])
    for method, scored in cases.items():
        for case, score in scored.items():
            for name, row in score["classes"].items():
                values = [rounded(row[column]) for column in COLUMNS]
                writer.writerow([method, case, name, *("" if v is None else v for v in values)])
    return buffer.getvalue()


def write(path: Path, pooled: dict[str, dict[str, Any]], cases: dict[str, dict[str, dict[str, Any]]]) -> list[Path]:
    """JSON at `path` and CSV beside it, each written atomically."""
    text = json.dumps(rounded({"pooled": pooled, "cases": cases}), indent=1, sort_keys=True) + "\n"
    written = []
    path.parent.mkdir(parents=True, exist_ok=True)
    for target, content in ((path, text), (path.with_suffix(".csv"), csv_text(cases))):
        written.append(atomic_files.write_text(target, content))
    return written


def _mean(values: list[float]) -> float:
    known = [v for v in values if math.isfinite(v)]
    return sum(known) / len(known) if known else math.nan


def _percent(value: float) -> str:
    return f"{100 * value:.1f}" if math.isfinite(value) else "-"


def _number(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else "-"
