"""Reports keep unknowns unknown."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np

from diffseglung.volume import Volume
from studies import report, scores


def scored() -> dict[str, dict[str, object]]:
    """One case whose only tissue is healthy lung."""
    labels = Volume(np.ones((4, 5, 6), np.uint8), np.eye(4)[[2, 1, 0, 3]])
    return scores.score_case(labels, labels)


def test_unknown_numbers_become_null() -> None:
    found = report.rounded({"a": float("nan"), "b": [1.0, float("inf")], "c": 2})
    assert found == {
        "a": None,
        "b": [1.0, None],
        "c": 2,
    }


def test_json_and_csv_are_written_together(tmp_path: Path) -> None:
    case = scored()
    paths = report.write(tmp_path / "new" / "scores.json", {"m": scores.pool([case])}, {"m": {"one": case}})
    assert [p.name for p in paths] == ["scores.json", "scores.csv"]
    loaded = json.loads(paths[0].read_text(encoding="utf-8"))
    assert loaded["pooled"]["m"]["classes"]["healthy"]["dice_pooled"] == 1
    assert loaded["pooled"]["m"]["classes"]["ggo"]["dice_pooled"] is None
    rows = list(csv.DictReader(io.StringIO(paths[1].read_text(encoding="utf-8"))))
    assert len(rows) == 5
    assert rows[0]["dice"] == "1.0"
    assert rows[2]["dice"] == ""
    assert not list(tmp_path.rglob("*.part"))


def test_the_table_has_a_row_a_method_and_dashes_for_unknowns() -> None:
    rows = report.table({"m": scores.pool([scored()])})
    assert len(rows[0]) == len(report.HEADER)
    assert rows[0][:4] == ["m", "100.0", "-", "-"]
