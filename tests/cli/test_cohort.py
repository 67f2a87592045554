"""`diffseglung cohort`: a folder in, a folder, a table and a page out; a second start does no finished work again."""

from __future__ import annotations

import csv
import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("distributed")

from diffseglung.cli import main

MAP = ("label_map.nii.gz", "label_map.ctbl", "label_map.label.txt")

SPEC = importlib.util.spec_from_file_location("cohort_toys", Path(__file__).parents[1] / "cohort" / "cohort_toys.py")
assert SPEC is not None
assert SPEC.loader is not None
toys = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(toys)

pytestmark = pytest.mark.filterwarnings("ignore")  # Dask's, on closing sockets


def table(output: Path) -> dict[str, dict[str, str]]:
    with (output / "cohort.csv").open(newline="") as file:
        return {row["scan"]: row for row in csv.DictReader(file)}


def times(output: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in output.glob("*/run.json")}


def test_a_cohort_with_a_bad_scan_and_a_second_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scans, output = tmp_path / "in", tmp_path / "out"
    paths = toys.write_scans(scans, 3)
    whole = paths[1].read_bytes()
    toys.spoil(paths[1])
    words = ["cohort", "-i", str(scans), "-o", str(output), "--workers", "1", "-q"]
    assert main(words) == 1
    assert "scan_001" in capsys.readouterr().err
    rows, before = table(output), times(output)
    assert {name: row["status"] for name, row in rows.items()} == {
        "scan_000": "done", "scan_001": "failed", "scan_002": "done"
    }  # fmt: skip
    assert "cannot be read" in rows["scan_001"]["error"]
    assert {*MAP, "preview.png", "report.html", "run.json", "statistics.json"} == {
        path.name for path in (output / "scan_000").iterdir()
    }
    paths[1].write_bytes(whole)
    assert main(words) == 0
    after = times(output)
    assert {name: after[name] for name in before} == before
    assert {row["status"] for row in table(output).values()} == {"done"}
    assert not (output / "failed.json").exists()
    page = (output / "index.html").read_text(encoding="utf-8")
    assert '"folders":["scan_000","scan_001","scan_002"],"files":[3,3,3]' in page
    files = {"cohort.csv", "cohort_redcap.csv", "redcap_data_dictionary.csv"}
    assert all(f'href="{name}"' in page for name in files)
    shown = {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()}
    (output / "index.html").unlink()
    assert main(["cohort", "-o", str(output), "--page-only", "-q"]) == 0
    assert (output / "index.html").read_text(encoding="utf-8") == page
    remade = {"index.html", "cohort_redcap.csv", "redcap_data_dictionary.csv"}
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in shown.items() if path.name not in remade)
    assert main(words) == 0
    assert {name: times(output)[name] for name in before} == before


def test_the_page_alone_needs_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cohort", "-o", str(tmp_path / "none"), "--page-only"]) == 2
    assert "cohort.csv cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_without_an_input_nothing_is_labelled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cohort", "-o", str(tmp_path / "out")]) == 2
    assert "--input is missing" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--workers", "-1"], "0 or more"),
        (["--timeout", "0"], "timeout_s is 0"),
        (["--scheduler", "tcp://x:1", "--slurm"], "choose one"),
    ],
)
def test_what_makes_no_sense_is_refused(
    more: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cohort", "-i", str(tmp_path), "-o", str(tmp_path / "out"), *more]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_empty_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    assert main(["cohort", "-i", str(tmp_path / "in"), "-o", str(tmp_path / "out")]) == 2
    assert "holds no scans" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_hundred_scans_a_corrupt_one_and_a_killed_worker(tmp_path: Path) -> None:
    scans, output = tmp_path / "in", tmp_path / "out"
    toys.spoil(toys.write_scans(scans, 200)[77])
    words = [sys.executable, "-m", "diffseglung", "cohort", "-i", str(scans), "-o", str(output), "--workers", "2"]
    started = subprocess.Popen([*words, "--no-preview"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while len(times(output)) < 20:
        time.sleep(0.5)
        assert started.poll() is None
    children = subprocess.run(["pgrep", "-P", str(started.pid)], capture_output=True, text=True).stdout.split()
    workers = [int(pid) for pid in children if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")]
    os.kill(workers[0], signal.SIGKILL)
    started.communicate()
    assert started.returncode == 1
    rows, before = table(output), times(output)
    assert len(rows) == 200
    assert len(before) == 199
    assert [name for name, row in rows.items() if row["status"] != "done"] == ["scan_077"]
    assert "cannot be read" in rows["scan_077"]["error"]
    assert subprocess.run([*words, "--no-preview", "-q"], stderr=subprocess.DEVNULL).returncode == 1
    assert times(output) == before
