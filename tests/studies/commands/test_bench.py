"""`diffseglung bench`: every part runs, and the tables hold what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diffseglung.cli import main
from diffseglung.io import read_volume
from studies.speed import child
from studies.speed.scans import SIZES, scan_file


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output of a quick run of the parts that start processes."""
    folder = tmp_path_factory.mktemp("bench")
    assert main(["bench", "-o", str(folder), "--quick", "-q", "--parts", "scan", "published"]) == 0
    return folder


def test_a_quick_run_times_the_whole_job_its_stages_and_the_published_way(bench: Path) -> None:
    content = json.loads((bench / "bench.json").read_text(encoding="utf-8"))
    rows = {(row["part"], row["what"]): row for row in content["rows"]}
    scan = next(row for (part, _), row in rows.items() if part == "scan")
    stages = {what: row["cost"]["wall_s"][0] for (part, what), row in rows.items() if part == "stage"}
    assert {"loading and reading", "lungs", "tissue", "fusion", "writing", "start and the rest"} <= stages.keys()
    assert sum(stages.values()) == pytest.approx(scan["cost"]["wall_s"][0], rel=0.02)
    assert 50 < scan["peak_mib"] < 3000
    published = next(row for (part, _), row in rows.items() if part == "published")
    assert published["ratio"] > 0
    assert content["machine"]["gflops"] > 0


def test_the_table_tells_the_machine_and_a_row_for_each_measurement(bench: Path) -> None:
    text = (bench / "bench.md").read_text(encoding="utf-8")
    content = json.loads((bench / "bench.json").read_text(encoding="utf-8"))
    assert content["machine"]["processor"] in text
    assert all(f"| {row['what']} |" in text for row in content["rows"])


def test_scans_have_the_size_they_say_and_are_made_once(tmp_path: Path) -> None:
    path = scan_file(tmp_path, "small")
    before = path.stat().st_mtime_ns
    assert scan_file(tmp_path, "small").stat().st_mtime_ns == before
    assert read_volume(path).array.min() < -900
    assert SIZES["standard"].title == "512 x 512 x 300, 0.7 x 0.7 x 1 mm"


def test_a_failed_command_is_no_measurement(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="does not exist"):
        child.measured("segment", "-i", str(tmp_path / "missing.nii.gz"), "-o", str(tmp_path / "out"))


def test_repeats_must_be_positive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "-o", str(tmp_path), "--repeats", "0"]) == 2
    assert "repeats is 0" in capsys.readouterr().err
