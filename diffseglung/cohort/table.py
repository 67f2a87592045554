"""The cohort as a table with one row per scan, built from the results on disk, so that interruptions do no harm."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffseglung.cohort.plan import Task
from diffseglung.cohort.run import TaskResult
from diffseglung.labels import TISSUES
from diffseglung.output.record import load
from diffseglung.platform import atomic_files, serialization
from diffseglung.platform.errors import InputError

Row = dict[str, str | int | float | None]
FAILED = "failed.json"
"""Errors of scans that could not be labelled, by name."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters that make a spreadsheet read text as a formula."""
BETWEEN_WARNINGS = " | "
"""Warnings may contain commas and semicolons."""


@dataclass(frozen=True)
class Column:
    """One column; its unit is also in its name.  digits: decimals shown.  low, high: limits of the value."""

    name: str
    title: str
    unit: str = ""
    note: str = ""
    digits: int = 0
    low: int | None = None
    high: int | None = None
    is_text: bool = False


def _text(name: str, title: str, note: str = "") -> Column:
    return Column(name, title, note=note, is_text=True)


def _tissue(name: str, title: str) -> tuple[Column, Column]:
    return (
        Column(f"{name}_ml", title, "mL", "volume in both lungs", 0, 0),
        Column(f"{name}_percent", title, "%", "share of both lungs", 1, 0, 100),
    )


_ALL = (
    _text("scan", "Scan", "folder of the scan's results"),
    _text("input", "Input", "file or DICOM folder that was read"),
    _text("status", "Status"),
    _text("error", "Reason of failure"),
    Column("seconds", "Time", "s", "computing time of this scan", 1, 0),
    Column("slice_mm", "Slice distance", "mm", "between neighbouring slices", 2, 0),
    Column("pixel_mm", "Pixel width", "mm", "the larger of rows and columns", 2, 0),
    Column("noise_hu", "Noise", "HU", "standard deviation inside the body", 0, 0),
    Column("healthy_level_hu", "Healthy level", "HU", "density of this scan's healthy lung"),
    Column("lung_score", "Lung score", "", "plausibility of the lung mask, 0 to 1; check it below 0.75", 2, 0, 1),
    Column("lung_ml", "Lung volume", "mL", "both lungs", 0, 0),
    Column("mean_lung_density_hu", "Mean lung density", "HU", "both lungs"),
    Column("laa950_percent", "LAA-950", "%", "share of both lungs below -950 HU", 1, 0, 100),
    Column("haa_percent", "HAA", "%", "share of both lungs from -600 to -250 HU", 1, 0, 100),
    Column("perc15_hu", "15th percentile", "HU", "of lung density"),
    *(column for label in TISSUES for column in _tissue(label.name, label.title)),
    *_tissue("lesions", "All lesions"),
    _text("warnings", "Warnings", "why some values may be unreliable"),
    _text("method", "Method"),
    _text("model_sha256", "Model", "SHA-256 of the weights file"),
    _text("version", "Version", "of DiffSegLung"),
)
BY_NAME = {column.name: column for column in _ALL}
COLUMNS = tuple(BY_NAME)
"""Names of the columns in order. Percent is of the lungs. Unknown is empty (null in Parquet)."""


def row_of(task: Task, output: Path, failed: dict[str, Any]) -> Row:
    """The row of a task that is done, failed or waiting.  failed: from `read_failed`."""
    row: Row = dict.fromkeys(COLUMNS)
    row |= {"scan": task.name, "input": task.source, "status": "waiting"}
    record, known = load(output / task.name), failed.get(task.name)
    error = known.get("error") if isinstance(known, dict) else None
    if record is not None and record.get("task") == task.mark:
        try:
            missing = {"error": error or f"missing {', '.join(record['failed'])}"} if record.get("failed") else {}
            return row | {"status": "done"} | missing | _measured(output / task.name, record)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as cause:
            what = f"its result cannot be read ({type(cause).__name__}): remove {task.name} and label it again"
            return row | {"status": "failed", "error": what}
    if isinstance(known, dict):
        return row | {"status": "failed", "error": error, "seconds": known.get("seconds")}
    return row


def _measured(folder: Path, record: dict[str, Any]) -> Row:
    found = serialization.read(folder / "statistics.json")
    lung, quality = found["lung"], record.get("quality", {})
    row: Row = {
        "seconds": round(sum(record.get("seconds", {}).values()), 2),
        "slice_mm": quality.get("slice_mm"),
        "pixel_mm": quality.get("pixel_mm"),
        "noise_hu": quality.get("noise_hu"),
        "healthy_level_hu": record.get("scan", {}).get("healthy_level_hu"),
        "lung_score": record.get("lung_quality", {}).get("score"),
        "lung_ml": lung["volume_ml"],
        "mean_lung_density_hu": lung["mean_lung_density_hu"],
        "laa950_percent": _percent(lung["LAA-950"]),
        "haa_percent": _percent(lung["HAA"]),
        "perc15_hu": lung["percentiles_hu"]["15"],
        "lesions_ml": found["lesions"]["volume_ml"],
        "lesions_percent": _percent(found["lesions"]["fraction_of_lung"]),
        "warnings": BETWEEN_WARNINGS.join(record.get("warnings", [])) or None,
        "method": record.get("settings", {}).get("method"),
        "model_sha256": (record.get("model") or {}).get("sha256"),
        "version": record.get("versions", {}).get("diffseglung"),
    }
    for label in TISSUES:
        row[f"{label.name}_ml"] = found[label.name]["volume_ml"]
        row[f"{label.name}_percent"] = _percent(found[label.name]["fraction_of_lung"])
    return row


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 4)


def rows_of(tasks: Iterable[Task], output: Path) -> list[Row]:
    """A row for each task, in order."""
    failed = read_failed(output)
    return [row_of(task, output, failed) for task in tasks]


def write_tables(rows: Sequence[Row], output: Path) -> list[Path]:
    """Write cohort.csv, and cohort.parquet if pyarrow is installed; each file complete or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([cell(row[name]) for name in COLUMNS] for row in rows)
    files = [atomic_files.write_bytes(output / "cohort.csv", text.getvalue().encode("utf-8", "backslashreplace"))]
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        return files
    kinds = [(name, pyarrow.string() if BY_NAME[name].is_text else pyarrow.float64()) for name in COLUMNS]
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist([_whole(row) for row in rows], schema=pyarrow.schema(kinds)), buffer)
    return [*files, atomic_files.write_bytes(output / "cohort.parquet", buffer.getvalue())]


def _whole(row: Row) -> Row:
    """A row with valid Unicode; a path may hold bytes that are not."""
    plain = (v.encode("utf-8", "backslashreplace").decode() if isinstance(v, str) else v for v in row.values())
    return dict(zip(row, plain, strict=True))


def cell(value: str | int | float | None) -> str | int | float:
    """A value for a spreadsheet: text that begins like a formula is preceded by an apostrophe.

    >>> cell("=HYPERLINK(1)"), cell(None), cell(3.5)
    ("'=HYPERLINK(1)", '', 3.5)
    """
    if value is None:
        return ""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def read_table(output: Path) -> list[Row]:
    """The rows of cohort.csv; missing columns are unknown.  Raises InputError if it is not such a table."""
    path = output / "cohort.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            found = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as cause:
        raise InputError(f"{path} cannot be read ({cause})", remedy="pass the output folder of a cohort") from cause
    rows: list[Row] = []
    for number, line in enumerate(found, 2):
        try:
            row: Row = dict.fromkeys(COLUMNS) | {name: _read(name, line[name]) for name in COLUMNS if name in line}
        except ValueError as cause:
            raise InputError(f"{path}, row {number}: {cause}", remedy="label the cohort again") from cause
        if row["scan"] is None or row["status"] is None:
            raise InputError(f"{path}, row {number} has no scan or status", remedy="label the cohort again")
        rows.append(row)
    return rows


def _read(name: str, text: str | None) -> str | float | None:
    """The value that `cell` wrote."""
    if not text:
        return None
    if not BY_NAME[name].is_text:
        return float(text)
    return text[1:] if text.startswith("'") and text[1:].startswith(FORMULA) else text


def read_failed(output: Path) -> dict[str, Any]:
    """The failures of this and earlier runs, by name."""
    try:
        failed = serialization.read(output / FAILED)
    except (OSError, ValueError):
        return {}
    return failed if isinstance(failed, dict) else {}


def write_failed(output: Path, failed: dict[str, Any]) -> None:
    """Write the failures; remove the file if there are none."""
    if failed:
        atomic_files.write_bytes(output / FAILED, (json.dumps(failed, indent=1, sort_keys=True) + "\n").encode("utf-8"))
    else:
        (output / FAILED).unlink(missing_ok=True)


def with_result(failed: dict[str, Any], outcome: TaskResult) -> dict[str, Any]:
    """The failures after another result."""
    rest = {name: value for name, value in failed.items() if name != outcome.name}
    if outcome.error is not None:
        rest[outcome.name] = {"input": outcome.source, "error": outcome.error, "seconds": round(outcome.seconds, 2)}
    return rest
