"""The cohort as a table: one row a scan, made from the results on disk, so that it is right after any ending."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from diffseglung.cohort.plan import Task, read_record
from diffseglung.cohort.run import TaskResult
from diffseglung.labels import TISSUES
from diffseglung.platform import atomic_files, serialization
from diffseglung.platform.errors import InputError

Row = dict[str, str | int | float | None]
FAILED = "failed.json"
"""Outcomes of scans that could not be labelled, by name."""
TEXTS = ("scan", "input", "status", "error", "warnings", "method", "model_sha256", "version")
NUMBERS = (
    *("seconds", "slice_mm", "pixel_mm", "noise_hu", "healthy_level_hu"),
    *("lung_score", "lung_ml", "mean_lung_density_hu", "laa950_percent", "haa_percent", "perc15_hu"),
    *(f"{label.name}_{unit}" for label in TISSUES for unit in ("ml", "percent")),
    *("lesions_ml", "lesions_percent"),
)
COLUMNS = (*TEXTS[:4], *NUMBERS, *TEXTS[4:])
"""Units are in the names; percent is of the lungs. Unknown is empty (null in Parquet)."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""
BETWEEN_WARNINGS = " | "
"""A warning may hold commas and semicolons."""


def row_of(task: Task, output: Path, failed: dict[str, Any]) -> Row:
    """What is known of a task: finished, failed, or waiting."""
    row: Row = dict.fromkeys(COLUMNS)
    row |= {"scan": task.name, "input": task.source, "status": "waiting"}
    record, known = read_record(output / task.name), failed.get(task.name)
    error = known.get("error") if isinstance(known, dict) else None
    if record is not None and record.get("task") == task.mark:
        try:
            missing = {"error": error or f"lacks {', '.join(record['failed'])}"} if record.get("failed") else {}
            return row | {"status": "done"} | missing | _measured(output / task.name, record)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as cause:
            what = f"its result cannot be read ({type(cause).__name__}): remove {task.name}, and label it again"
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
    """A row for each task, in their order."""
    failed = read_failed(output)
    return [row_of(task, output, failed) for task in tasks]


def write_tables(rows: Sequence[Row], output: Path) -> list[Path]:
    """cohort.csv, and cohort.parquet where pyarrow is installed; each complete before it takes its name."""
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
    kinds = [(name, pyarrow.string() if name in TEXTS else pyarrow.float64()) for name in COLUMNS]
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist([_whole(row) for row in rows], schema=pyarrow.schema(kinds)), buffer)
    return [*files, atomic_files.write_bytes(output / "cohort.parquet", buffer.getvalue())]


def _whole(row: Row) -> Row:
    """A row whose texts are Unicode; a path may hold bytes that are none."""
    plain = (v.encode("utf-8", "backslashreplace").decode() if isinstance(v, str) else v for v in row.values())
    return dict(zip(row, plain, strict=True))


def cell(value: str | int | float | None) -> str | int | float:
    """A value as a spreadsheet may have it: text that begins like a formula is quoted by an apostrophe."""
    if value is None:
        return ""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def read_table(output: Path) -> list[Row]:
    """The rows of cohort.csv; columns it does not have are unknown.  Raises InputError where it is no such table."""
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
            raise InputError(f"{path}, row {number} names no scan or status", remedy="label the cohort again")
        rows.append(row)
    return rows


def _read(name: str, text: str | None) -> str | float | None:
    """What `cell` wrote."""
    if not text:
        return None
    if name not in TEXTS:
        return float(text)
    return text[1:] if text.startswith("'") and text[1:].startswith(FORMULA) else text


def read_failed(output: Path) -> dict[str, Any]:
    """Failures of this and earlier runs, by name."""
    try:
        failed = serialization.read(output / FAILED)
    except (OSError, ValueError):
        return {}
    return failed if isinstance(failed, dict) else {}


def write_failed(output: Path, failed: dict[str, Any]) -> None:
    """Keep the failures, or remove the file where there are none."""
    if failed:
        atomic_files.write_bytes(output / FAILED, (json.dumps(failed, indent=1, sort_keys=True) + "\n").encode("utf-8"))
    else:
        (output / FAILED).unlink(missing_ok=True)


def with_result(failed: dict[str, Any], outcome: TaskResult) -> dict[str, Any]:
    """The failures after one more outcome."""
    rest = {name: value for name, value in failed.items() if name != outcome.name}
    if outcome.error is not None:
        rest[outcome.name] = {"input": outcome.source, "error": outcome.error, "seconds": round(outcome.seconds, 2)}
    return rest
