"""Bars on a real terminal; what is printed beside them reaches the file or pipe it was meant for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from diffseglung.cli import progress

ROOT = Path(__file__).parents[2]
BAR = """
import time
from diffseglung.cli.progress import bar
with bar("working") as track:
    time.sleep(0.2)
    for _ in track(range(3), 3):
        time.sleep(0.1)
    print("a line")
    time.sleep(0.2)
"""
COUNTING = """
import time
from diffseglung.cli.progress import counting
with counting("working", start=0, total=3, quiet=False) as show:
    for done in (1, 2, 3):
        show(done, "")
        time.sleep(0.1)
    print("a line")
"""


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("code", [BAR, COUNTING], ids=["bar", "counting"])
def test_the_bar_is_on_the_terminal_and_the_line_in_the_file(code: str, tmp_path: Path) -> None:
    import pty

    master, slave = pty.openpty()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}
    with (tmp_path / "out").open("w") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, stderr=slave, env=environment, check=True)
    drawn = os.read(master, 65536).decode()
    os.close(slave)
    os.close(master)
    assert (tmp_path / "out").read_text(encoding="utf-8") == "a line\n"
    assert "working" in drawn
    assert "3/3" in drawn


def test_no_bar_where_nobody_looks(capsys):
    with progress.counting("training", start=0, total=3, quiet=False) as show:
        show(1, "loss 0.5")
    assert capsys.readouterr().err == ""


def test_a_bar_on_a_terminal_unless_quiet(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert progress.wanted(False)
    assert not progress.wanted(True)
    with progress.counting("training", start=0, total=3, quiet=False) as show:
        show(3, "loss 0.5")
    assert "3/3" in capsys.readouterr().err
