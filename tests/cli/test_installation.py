"""`info` without a path says what is wrong, what to do, and ends with 1 only if something does not work."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from diffseglung.cli import installation, main
from diffseglung.method import checkpoint
from diffseglung.platform import extras, resources


def examined(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, dict[str, str]]]:
    """Exit code and findings by title, without the trial run."""
    code = main(["info", "--json", "--no-self-test", *words])
    report = json.loads(capsys.readouterr().out)
    assert report["ready"] == (code == 0)
    return code, {finding["title"]: finding for finding in report["findings"]}


def test_a_sound_machine_is_ready(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = examined(capsys)
    assert code == 0
    assert {"diffseglung", "libraries", "processor", "memory", "output disk", "[dicom]", "model"} <= found.keys()


def test_the_trial_run_labels_a_phantom(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    shown = capsys.readouterr().out
    assert "self-test        a phantom segmented in" in shown
    assert shown.splitlines()[-1].startswith("ready")


def test_the_former_command_still_works(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json", "--no-self-test"]) == 0
    told = capsys.readouterr()
    assert {"ready", "findings"} <= json.loads(told.out).keys()
    assert told.err == "note: `diffseglung doctor` is now `diffseglung info`\n"


def test_the_last_line_sums_up() -> None:
    good, note, bad = (installation.Finding(x, x, "") for x in (installation.GOOD, installation.NOTE, installation.BAD))
    assert installation.summary([good, good]) == "ready"
    assert installation.summary([good, note]) == "ready, with limits: note"
    assert installation.summary([bad, note]) == "not ready: bad"


def test_a_missing_extra_is_a_note_with_the_pip_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    code, found = examined(capsys)
    assert code == 0
    assert found["[dicom]"]["verdict"] == installation.NOTE
    assert found["[dicom]"]["remedy"] == "pip install 'diffseglung[dicom]'"


def test_a_changed_model_is_bad(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(checkpoint.default_path().parent, folder)
    with (folder / "lung-finder.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\x7f\x00\x00\x01")
    monkeypatch.setattr(checkpoint, "default_path", lambda: folder / "lung-small.safetensors")
    code, found = examined(capsys)
    assert code == 1
    assert found["lung-finder.safetensors"]["verdict"] == installation.BAD


@pytest.mark.parametrize("want", ["disk", "memory"])
def test_want_of_room_is_bad(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, want: str) -> None:
    if want == "disk":
        usage: Any = namedtuple("usage", "total used free")
        monkeypatch.setattr(installation.shutil, "disk_usage", lambda place: usage(1, 1, 2**20))
    else:
        monkeypatch.setattr(resources, "memory_bytes", lambda: 2**29)
    code, found = examined(capsys)
    assert code == 1
    bad = [finding for finding in found.values() if finding["verdict"] == installation.BAD]
    assert bad
    assert all(finding["remedy"] for finding in bad)


def test_an_examination_that_breaks_is_a_finding_not_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> Any:
        raise RuntimeError("no such thing")
        yield

    monkeypatch.setattr(installation, "_readers", broken)
    code, found = examined(capsys)
    assert code == 1
    assert any("no such thing" in finding["text"] for finding in found.values())


def test_quiet_shows_only_what_is_not_good(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "-q", "--no-self-test"]) == 0
    assert all(not line.startswith("good") for line in capsys.readouterr().out.splitlines())


def test_the_list_of_hashes_covers_every_shipped_model() -> None:
    folder = checkpoint.default_path().parent
    listed = {
        line.split()[1]: line.split()[0] for line in (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    }
    assert listed == {path.name: checkpoint.sha256(path) for path in folder.glob("*.safetensors")}
