"""`diffseglung view`: prints where the page is, serves it until it is interrupted, names what is wrong."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from diffseglung import output
from diffseglung.cli import main, view
from diffseglung.io.nifti import write_nifti
from diffseglung.segmentation import Segmentation


@pytest.fixture
def result(chest: Segmentation, tmp_path: Path) -> Path:
    output.write(chest, tmp_path / "out", output.Products(preview=False, report=False))
    return tmp_path / "out"


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for one child")
def test_the_page_is_served_until_it_is_interrupted(result: Path, chest: Segmentation, tmp_path: Path) -> None:
    write_nifti(tmp_path / "ct.nii.gz", chest.ct)
    words = ["-m", "diffseglung", "view", str(result), "--ct", str(tmp_path / "ct.nii.gz"), "--no-browser", "-q"]
    child = subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )  # fmt: skip
    with child:
        try:
            assert child.stdout is not None
            address = child.stdout.readline().strip()
            with urllib.request.urlopen(address, timeout=10) as answer:
                assert b"<title>DiffSegLung</title>" in answer.read()
            child.send_signal(signal.SIGINT)
            rest = child.communicate(timeout=20)
        finally:
            child.kill()
    assert (child.returncode, *rest) == (0, "", "")


def test_what_is_said_and_opened(result: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    from diffseglung.viewer.server import ViewServer

    opened: list[str] = []

    def interrupted(_: ViewServer) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(view, "open_browser", opened.append)
    monkeypatch.setattr(ViewServer, "serve_forever", interrupted)
    assert main(["view", str(result)]) == 0
    said = capsys.readouterr().out
    assert "add --ct CT" in said
    assert opened == [said.splitlines()[-1]]
    assert main(["view", str(result), "-q"]) == 0
    assert capsys.readouterr().out == ""
    assert len(opened) == 2


@pytest.mark.parametrize("words", [["absent"], ["."], ["out", "--ct", "absent"], ["out", "--port", "70000"]])
def test_bad_input_is_one_sentence_and_exit_code_two(
    result: Path, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(result.parent)
    assert main(["view", *words, "--no-browser"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "Traceback" not in error
    assert "  try: " in error
