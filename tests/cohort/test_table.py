"""The table: what is unknown is empty, and no name becomes a formula."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from diffseglung.cohort.plan import Task
from diffseglung.cohort.run import TaskResult
from diffseglung.cohort.table import (
    BY_NAME,
    COLUMNS,
    read_failed,
    read_table,
    rows_of,
    with_result,
    write_failed,
    write_tables,
)
from diffseglung.io.studies import Study
from diffseglung.output import Products, write
from diffseglung.platform.errors import InputError
from diffseglung.segmentation import Segmentation


def tasks(folder: Path, *names: str) -> list[Task]:
    return [Task(name, Study(name, folder / f"{name}.nii.gz"), {"of": name}) for name in names]


@pytest.fixture
def cohort(tmp_path: Path, chest: Segmentation) -> list[Task]:
    """One scan done, one failed, one waiting, in the output folder tmp_path."""
    chest.run["task"] = {"of": "good"}
    write(chest, tmp_path / "good", Products(preview=False))
    write_failed(tmp_path, with_result({}, TaskResult("bad", "bad.nii.gz", "it is broken (try: another)", 1.5)))
    return tasks(tmp_path, "good", "bad", "later")


def test_rows_hold_what_is_known_and_nothing_else(tmp_path: Path, cohort: list[Task], chest: Segmentation) -> None:
    good, bad, later = rows_of(cohort, tmp_path)
    assert [row["status"] for row in (good, bad, later)] == ["done", "failed", "waiting"]
    assert good["lung_ml"] == chest.statistics["lung"]["volume_ml"]
    assert good["emphysema_percent"] == pytest.approx(100 * chest.statistics["emphysema"]["fraction_of_lung"], abs=1e-3)
    assert good["warnings"] == "thick slices"
    assert good["noise_hu"] is good["lung_score"] is None
    assert bad["error"] == "it is broken (try: another)"
    assert all(bad[name] is None for name in COLUMNS if name.endswith(("_ml", "_percent", "_hu")))
    assert all(later[name] is None for name in COLUMNS if name not in ("scan", "input", "status"))


def test_csv_and_parquet_hold_the_same(tmp_path: Path, cohort: list[Task]) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = rows_of(cohort, tmp_path)
    files = write_tables(rows, tmp_path)
    assert [path.name for path in files] == ["cohort.csv", "cohort.parquet"]
    with files[0].open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == list(COLUMNS)
    again = parquet.read_table(files[1]).to_pylist()
    assert again == rows
    for line, row in zip(lines, rows, strict=True):
        assert all(line[name] == ("" if row[name] is None else str(row[name])) for name in COLUMNS)
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("name", ["=1+1", "@cmd", "+x", "-x"])
def test_no_name_becomes_a_formula(name: str, tmp_path: Path) -> None:
    (task,) = tasks(tmp_path, "x")
    rows = rows_of([Task("x", Study("x", Path(name)), task.mark)], tmp_path)
    text = write_tables(rows, tmp_path)[0].read_text(encoding="utf-8")
    assert f",'{name}," in text


def test_a_failure_is_forgotten_when_the_scan_succeeds(tmp_path: Path) -> None:
    failed = with_result({}, TaskResult("a", "a.nii", "broken"))
    write_failed(tmp_path, failed)
    assert read_failed(tmp_path)["a"]["error"] == "broken"
    write_failed(tmp_path, with_result(failed, TaskResult("a", "a.nii")))
    assert read_failed(tmp_path) == {}
    assert not (tmp_path / "failed.json").exists()
    (tmp_path / "failed.json").write_text(json.dumps([1]))
    assert read_failed(tmp_path) == {}


def test_a_table_is_read_as_it_was_written(tmp_path: Path, cohort: list[Task]) -> None:
    rows = rows_of(cohort, tmp_path)
    rows[0]["input"], rows[1]["input"] = "=1+1", 'it\'s, \n"so"'
    write_tables(rows, tmp_path)
    assert read_table(tmp_path) == rows


def test_paths_that_are_no_unicode_can_be_written(tmp_path: Path) -> None:
    (task,) = tasks(tmp_path, "x")
    rows = rows_of([Task("x", Study("x", Path("\udcff.nii")), task.mark)], tmp_path)
    assert "\\udcff.nii" in write_tables(rows, tmp_path)[0].read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("scan,status,lung_ml\na,done,much\n", "row 2"),
        ("scan,status\n,done\n", "no scan"),
        ("name\na\n", "no scan"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_what_is_no_table_is_refused(content: str | bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "cohort.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=words):
        read_table(tmp_path)


def test_units_are_those_in_the_names() -> None:
    units = {"ml": "mL", "percent": "%", "hu": "HU", "mm": "mm", "seconds": "s", "score": ""}
    for column in BY_NAME.values():
        assert column.title
        assert column.unit == ("" if column.is_text else units[column.name.split("_")[-1]]), column.name


def test_shares_end_at_a_hundred() -> None:
    for column in BY_NAME.values():
        assert (column.low, column.high) == (0, 100) or not column.name.endswith("_percent")
