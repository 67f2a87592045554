"""With --json, standard output is exactly one JSON document, on every command that reports."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from diffseglung.cli import COMMANDS, build_parser, run_command, self_tests
from diffseglung.cli.cohort import _Progress
from diffseglung.cli.terminal import answer, say
from diffseglung.cohort.run import TaskResult
from tests.toys import toy_cases

SILENT = {"completion", "view"}
"""Commands whose output is not a report: code for a shell, and a server."""
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - SILENT))
def test_every_command_that_reports_takes_json(command: str) -> None:
    assert "--json" in build_parser(command).format_help()


def test_words_go_to_standard_error_beside_json_and_nowhere_when_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    for json_wanted, quiet, out, err in (
        (False, False, "words\n", ""),
        (True, False, '{\n  "path": "a"\n}\n', "words\n"),
        (True, True, '{\n  "path": "a"\n}\n', ""),
        (False, True, "", ""),
    ):
        args = argparse.Namespace(json=json_wanted, quiet=quiet)
        say(args, "words")
        answer(args, {"path": Path("a")})
        assert capsys.readouterr() == (out, err)


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        answer(argparse.Namespace(json=True), {"dice": float("nan")})


def run(capsys: pytest.CaptureFixture[str], command: str, *words: object) -> Any:
    """The document that a command prints, and nothing else."""
    assert run_command(command, [*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_cheap_commands_print_one_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = run(capsys, "phantom", "-o", tmp_path / "phantoms", "--size", "small", "--healthy", "--seed", 1)
    (case,) = made["cases"]
    assert (Path(case) / "truth.nii.gz").is_file()
    scores = run(capsys, "evaluate", "--prediction", f"{case}/truth.nii.gz", "--truth", case, "--no-surfaces")
    assert scores["pooled"]["prediction"]
    assert run(capsys, "info", f"{case}/ct.nii.gz")["kind"] == "scan"
    converted = run(capsys, "convert", "-i", f"{case}/ct.nii.gz", "-o", tmp_path / "cases")
    assert [row["status"] for row in converted["scans"]] == ["made"]
    again = run(capsys, "convert", "-i", f"{case}/ct.nii.gz", "-o", tmp_path / "cases")
    assert [row["status"] for row in again["scans"]] == ["kept"]


def test_training_commands_print_one_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toy_cases(tmp_path / "npz")
    size = ("--shape", 8, 16, 16, "--patches_per_patient", 2, "--num_workers", 1)
    cut = run(capsys, "precompute", "-i", tmp_path / "npz", "-o", tmp_path / "patches", *size)
    assert cut == {"output": str(tmp_path / "patches"), "patches": 4, "shape_zyx": [8, 16, 16], "cases": 2, "notes": []}
    words = ("--patches_dir", tmp_path / "patches", "-o", tmp_path / "run", "--size", "tiny", "--batch_size", 2)
    ended = run(capsys, "train", *words, "--iterations", 2, "-d", "cpu")
    assert (ended["iteration"], ended["stopped"]) == (2, False)
    assert Path(ended["weights"]).is_file()
    drawn = run(capsys, "sample", "-m", ended["weights"], "-o", tmp_path / "drawn", "-n", 1, "--steps", 2, "-d", "cpu")
    assert all(Path(file).is_file() for file in drawn["files"])


def test_check_and_clusters_print_one_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(folder: Path, device: str) -> str:
        raise ValueError("two is not three")

    monkeypatch.setattr(self_tests, "TESTS", {"one": lambda folder, device: "fine"})
    found = run(capsys, "check", "-d", "cpu")
    assert (found["passed"], found["tests"][0]["found"]) == (True, "fine")
    monkeypatch.setattr(self_tests, "TESTS", {"one": broken})
    assert run_command("check", ["--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["passed"], found["tests"][0]["found"]) == (False, "ValueError: two is not three")
    (case,) = toy_cases(tmp_path, 1)
    clusters = run(capsys, "clusters", "-i", case, "-o", tmp_path / "out", "--k", 2)
    assert clusters == json.loads((tmp_path / "out" / "clusters.json").read_text(encoding="utf-8"))


def test_a_cohort_tells_of_its_scans_on_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = argparse.Namespace(json=True, quiet=False, output=tmp_path)
    progress = _Progress(args, [], {}, before=0)
    progress(TaskResult("one", "one.nii.gz", seconds=2.5))
    assert capsys.readouterr() == ("", "one: 2.5 s\n")


def test_a_failed_scan_is_in_the_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "bad.nii.gz").write_text("no scan")
    words = ["-i", str(tmp_path / "scans"), "-o", str(tmp_path / "cases"), "--json"]
    assert run_command("convert", words) == 2
    (row,) = json.loads(capsys.readouterr().out)["scans"]
    assert row["status"] == "failed"
    assert "bad.nii.gz" in row["problem"]
