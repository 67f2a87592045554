"""What is published says how it was made."""

from __future__ import annotations

import json
from pathlib import Path

from studies import compared_methods, runner
from studies.publish import publish
from tests.studies.benchmarked import write_cases


def test_every_file_is_written_and_kept_results_are_admitted(tmp_path: Path) -> None:
    chosen, _ = compared_methods.choose(["hu_bands_slicer"], None)
    jobs = runner.folder_jobs(write_cases(tmp_path / "cases", (3,)), tmp_path)
    old = runner.Plan(candidates=tuple(chosen), surfaces=False, sources="older")
    list(runner.run_all(jobs, old))
    paths = publish(tmp_path, jobs, old, {"command": "diffseglung benchmark"})
    assert {p.name for p in paths} == {
        "table.md", "table.csv", "benchmark.json", "dice.png", "agreement.png", "index.html",
    }  # fmt: skip
    record = json.loads((tmp_path / "benchmark.json").read_text(encoding="utf-8"))
    assert record["header"]["command"] == "diffseglung benchmark"
    assert record["header"]["model SHA-256"] == "no model"
    assert record["results"]["hu_bands_slicer"]["case3"]["scores"]["confusion"]
    assert "all made by this code" in (tmp_path / "table.md").read_text(encoding="utf-8")
    publish(tmp_path, jobs, runner.Plan(candidates=tuple(chosen), surfaces=False, keep=True), {})
    assert "other versions of the code" in (tmp_path / "table.md").read_text(encoding="utf-8")
    assert not list(tmp_path.rglob("*.part"))
