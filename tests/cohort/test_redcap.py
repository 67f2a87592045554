"""What REDCap takes: its own columns and names, one record a scan, numbers as numbers, nothing a spreadsheet runs."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from diffseglung.cohort.redcap import DICTIONARY_COLUMNS, dictionary, record_id, records, write_redcap
from diffseglung.cohort.table import BY_NAME, COLUMNS, FORMULA, Row
from tests.cohort.cohort_rows import HOSTILE, a_cohort, a_row

NAME = re.compile(r"[a-z][a-z0-9_]{0,25}")
NUMBER = re.compile(r"-?\d+(\.\d+)?")


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


@pytest.fixture
def written(tmp_path: Path) -> tuple[list[Row], list[dict[str, str]], list[dict[str, str]]]:
    """Rows, the records of them, and the fields."""
    rows = a_cohort(40)
    files = write_redcap(rows, tmp_path)
    assert [path.name for path in files] == ["cohort_redcap.csv", "redcap_data_dictionary.csv"]
    assert not list(tmp_path.glob("*.part"))
    return rows, *map(read, files)


def test_the_dictionary_has_the_columns_of_redcap(written: tuple) -> None:
    _, _, fields = written
    assert len(DICTIONARY_COLUMNS) == 18
    assert tuple(fields[0]) == DICTIONARY_COLUMNS
    assert all(None not in field and None not in field.values() for field in fields)


def test_the_records_hold_the_fields_of_the_dictionary_in_its_order(written: tuple) -> None:
    rows, found, fields = written
    names = [field["Variable / Field Name"] for field in fields]
    assert names[0] == "record_id"
    assert list(found[0]) == names
    assert len(set(names)) == len(names)
    assert all(NAME.fullmatch(name) for name in names), names
    assert len(found) == len(rows)


def test_forms_and_types_are_such_as_redcap_knows(written: tuple) -> None:
    _, _, fields = written
    for field in fields:
        assert NAME.fullmatch(field["Form Name"])
        assert field["Field Type"] in ("text", "notes", "radio")
        assert field["Field Label"]
        assert (field["Field Type"] == "radio") == bool(field["Choices, Calculations, OR Slider Labels"])
        if field["Text Validation Type OR Show Slider Number"]:
            assert field["Text Validation Type OR Show Slider Number"] == "number"
            without_unit = field["Variable / Field Name"] == "dsl_lung_score"
            assert without_unit or field["Field Note"].split(";")[0] in ("s", "mm", "HU", "mL", "%")
    assert fields[0]["Field Type"] == "text"


def test_values_are_those_of_the_table_and_pass_the_validation(written: tuple) -> None:
    rows, found, fields = written
    rules = {field["Variable / Field Name"]: field for field in fields}
    known = 0
    for row, record in zip(rows, found, strict=True):
        for name in (name for name, column in BY_NAME.items() if not column.is_text):
            rule, text = rules[f"dsl_{name}"], record[f"dsl_{name}"]
            if row[name] is None:
                assert text == ""
                continue
            known += 1
            assert NUMBER.fullmatch(text)
            assert float(text) == pytest.approx(float(row[name]), abs=1e-6)
            assert not rule["Text Validation Min"] or float(text) >= float(rule["Text Validation Min"])
            assert not rule["Text Validation Max"] or float(text) <= float(rule["Text Validation Max"])
    assert known > 500
    choices = rules["dsl_status"]["Choices, Calculations, OR Slider Labels"].split(" | ")
    assert {record["dsl_status"] for record in found} == {choice.split(", ")[0] for choice in choices}


@pytest.mark.parametrize(
    ("value", "text"), [(1e-9, "0"), (-1e-9, "0"), (2.5e-5, "0.000025"), (1e7, "10000000"), (float("nan"), "")]
)
def test_numbers_have_no_exponent(value: float, text: str) -> None:
    header, record = records([a_row(scan="a", lung_ml=value)])
    assert record[header.index("dsl_lung_ml")] == text


@pytest.mark.parametrize("text", [*HOSTILE, "=1+1", "@SUM(A1)", "-2+3", "+4", "\t=1", "a\nb", "\x00\x1b[31m", "\udcff"])
def test_no_text_becomes_a_formula_or_breaks_a_record(text: str, tmp_path: Path) -> None:
    rows = [a_row(scan=text, status="failed", error=text, warnings=text), a_row(scan="b", status="waiting")]
    found = read(write_redcap(rows, tmp_path)[0])
    assert len(found) == 2
    assert not any(value.startswith(FORMULA) for record in found for value in record.values())
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", found[0]["record_id"])


def test_a_record_keeps_its_name_and_no_two_share_one() -> None:
    assert record_id("LIDC-IDRI-1011") == "LIDC-IDRI-1011"
    names = ["a b", "a-b", "a&b", "a_b", "x" * 100, "x" * 101, "x" * 102, "\u80ba", "\u80ba\u80ba", "_a", "a"]
    found = [record_id(name) for name in names]
    assert len({name.lower() for name in found}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name) for name in found)
    assert found == [record_id(name) for name in names]


def test_what_may_name_a_patient_is_left_out_or_marked() -> None:
    names = [line[0] for line in dictionary()[1:]]
    assert [f"dsl_{name}" for name in COLUMNS if name != "input"] == names[1:]
    place = DICTIONARY_COLUMNS.index("Identifier?")
    assert {line[0] for line in dictionary()[1:] if line[place] == "y"} == {"record_id", "dsl_scan", "dsl_error"}
