"""`diffseglung benchmark` from cases to the page."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from diffseglung.cli import main
from studies import cases
from tests.studies.benchmarked import write_cases


def test_the_quick_list_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two of its cases, physics and a baseline; again, and nothing is computed."""
    monkeypatch.setitem(cases.LISTS, "quick", cases.LISTS["quick"][1:])
    words = ["benchmark", "-o", str(tmp_path), "--quick", "--methods", "physics", "hu_bands_median", "-d", "cpu"]
    assert main(words) == 0
    assert "4 results computed, 0 kept" in capsys.readouterr().out
    value = {
        (line["method"], line["class"]): line
        for line in csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text(encoding="utf-8")))
        if line["stratum"] == "all" and line["metric"] in ("dice_pooled", "dice_mean")
    }
    assert value["physics", "all"]["cases"] == "2"
    assert float(value["hu_bands_median", "fibrosis"]["value"]) == 0
    assert float(value["physics", "all"]["value"]) > float(value["hu_bands_median", "all"]["value"])
    assert "K-means" not in (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "http" not in (tmp_path / "index.html").read_text(encoding="utf-8")
    assert main(words) == 0
    assert "0 results computed, 4 kept" in capsys.readouterr().out


def test_a_folder_of_cases_and_one_of_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_cases(tmp_path / "cases")
    words = ["--cases", str(folder), "--only", "case3", "--methods", "hu_bands_slicer", "--no-surfaces", "--robustness"]
    assert main(["benchmark", "-o", str(tmp_path / "out"), *words]) == 0
    moved = json.loads((tmp_path / "out" / "robustness.json").read_text(encoding="utf-8"))
    assert "hu_bands_slicer" in json.dumps(moved)
    assert "case3" in json.dumps(moved)
    assert "1 results computed" in capsys.readouterr().out
    assert [p.name for p in (tmp_path / "out" / "results").iterdir()] == ["case3"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--cases", str(Path(__file__).parent)], "no case folders"),
        (["--cases", str(Path(__file__).parent), "--list", "test"], "excludes"),
        (["--only", "nobody"], "nobody"),
        (["--phantoms-only", "--methods", "nonsense"], "nonsense"),
        (["--workers", "0"], "workers"),
        (["--model", "nowhere.pt", "--phantoms-only"], "does not exist"),
        (["--backgrounds", __file__], "not a folder"),
        (["--generation", "--patches-dir", "nowhere"], "does not exist"),
        (["--generation", "--base-model", "nowhere.pt"], "does not exist"),
    ],
)
def test_what_cannot_run_is_refused_before_any_work(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["benchmark", "-o", str(tmp_path / "out"), *words]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_missing_real_scans_are_named_with_the_way_around(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cases, "SHIPPED", tmp_path)
    assert main(["benchmark", "-o", str(tmp_path / "out"), "--backgrounds", str(tmp_path)]) == 2
    assert "--phantoms-only" in capsys.readouterr().err


@pytest.mark.slow
def test_the_generation_table(tmp_path: Path) -> None:
    assert main(["benchmark", "-o", str(tmp_path), "--generation", "--quick", "-q"]) == 0
    table = json.loads((tmp_path / "generation" / "generation.json").read_text(encoding="utf-8"))
    assert {"stage 1", "stage 2"} <= {row["set"].split(",")[0] for row in table["rows"]}
    assert (tmp_path / "generation" / "generation.png").is_file()
