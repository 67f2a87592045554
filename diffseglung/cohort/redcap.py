"""The cohort for REDCap: cohort_redcap.csv holds the records, redcap_data_dictionary.csv their fields.

Field names follow REDCap's rules: lower-case letters, digits and underscores, beginning with a letter, at most 26
characters. The dictionary has REDCap's 18 columns. Text that a spreadsheet would read as a formula is quoted, as in
cohort.csv.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from diffseglung.cohort.table import BY_NAME, Column, Row, cell
from diffseglung.platform import atomic_files

DICTIONARY_COLUMNS = (
    "Variable / Field Name", "Form Name", "Section Header", "Field Type", "Field Label",
    "Choices, Calculations, OR Slider Labels", "Field Note", "Text Validation Type OR Show Slider Number",
    "Text Validation Min", "Text Validation Max", "Identifier?", "Branching Logic (Show field only if...)",
    "Required Field?", "Custom Alignment", "Question Number (surveys only)", "Matrix Group Name", "Matrix Ranking?",
    "Field Annotation",
)  # fmt: skip
FORM = "diffseglung"
PREFIX = "dsl_"
"""Prefix of each name, which prevents clashes with fields of an existing project."""
LEFT_OUT = ("input",)
"""Paths may identify a patient."""
NOTES = ("error", "warnings")
IDENTIFIERS = ("scan", "error")
"""Columns that may contain file names, which may identify a patient."""
STATUS = "done, Labelled | failed, Failed | waiting, Waiting"
SECTIONS = {
    "scan": "Scan",
    "seconds": "Quality of the scan",
    "lung_score": "Lungs and density",
    "healthy_ml": "Tissue",
    "warnings": "How it was made",
}
"""First column of each section -> its heading."""
LONGEST_ID = 100
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

EXPORTED = tuple(column for column in BY_NAME.values() if column.name not in LEFT_OUT)


def field_name(column: Column) -> str:
    """The variable name of a column."""
    return PREFIX + column.name


def record_id(name: str) -> str:
    """The record name of a scan: its own name if REDCap and spreadsheets accept it, else plain letters and a hash.

    It does not depend on the names of other scans.

    >>> record_id("case-7"), record_id("Müller 7")
    ('case-7', 'M-ller-7-5cbbedf9')
    """
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip("._-")[:LONGEST_ID]
    if plain == name:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{plain[: LONGEST_ID - 9]}-{digest}".lstrip("-")


def records(rows: Sequence[Row]) -> list[list[str]]:
    """The header, then one record per scan; unknown values are empty."""
    header = ["record_id", *map(field_name, EXPORTED)]
    return [header, *([record_id(str(row["scan"])), *(_value(row[c.name]) for c in EXPORTED)] for row in rows)]


def _value(value: str | int | float | None) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, str):
        return str(cell(CONTROL.sub(" ", value)))
    text = f"{value:.6f}".rstrip("0").rstrip(".")  # no exponents
    return "0" if text == "-0" else text


def dictionary() -> list[list[str]]:
    """The header, then one line per field, in the order of the records."""
    record = {"Field Type": "text", "Field Label": "Record", "Field Note": "name of the scan", "Identifier?": "y"}
    fields = {"record_id": record} | {field_name(column): _field(column) for column in EXPORTED}
    lines = [{"Variable / Field Name": name, "Form Name": FORM} | field for name, field in fields.items()]
    return [list(DICTIONARY_COLUMNS), *([line.get(column, "") for column in DICTIONARY_COLUMNS] for line in lines)]


def _field(column: Column) -> dict[str, str]:
    """The entries of a column's dictionary line; the others are empty."""
    line = {
        "Section Header": SECTIONS.get(column.name, ""),
        "Field Type": "notes" if column.name in NOTES else "text",
        "Field Label": column.title,
        "Field Note": column.note,
        "Identifier?": "y" if column.name in IDENTIFIERS else "",
    }
    if column.name == "status":
        return line | {"Field Type": "radio", "Choices, Calculations, OR Slider Labels": STATUS}
    if column.is_text:
        return line
    return line | {
        "Field Label": f"{column.title} ({column.unit})" if column.unit else column.title,
        "Field Note": "; ".join(filter(None, (column.unit, column.note))),
        "Text Validation Type OR Show Slider Number": "number",
        "Text Validation Min": "" if column.low is None else str(column.low),
        "Text Validation Max": "" if column.high is None else str(column.high),
    }


def write_redcap(rows: Sequence[Row], output: Path) -> list[Path]:
    """Write both files, each complete or not at all."""
    return [
        atomic_files.write_bytes(output / "cohort_redcap.csv", _csv(records(rows))),
        atomic_files.write_bytes(output / "redcap_data_dictionary.csv", _csv(dictionary())),
    ]


def _csv(lines: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(lines)
    return text.getvalue().encode("utf-8", "backslashreplace")
