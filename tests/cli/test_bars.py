"""The iteration bar shows itself to people only."""

from __future__ import annotations

import sys

from diffseglung.cli import bars


def test_no_bar_where_nobody_looks(capsys):
    with bars.counting("training", start=0, total=3, quiet=False) as show:
        show(1, "loss 0.5")
    assert capsys.readouterr().err == ""


def test_a_bar_on_a_terminal_unless_quiet(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert bars.wanted(False)
    assert not bars.wanted(True)
    with bars.counting("training", start=0, total=3, quiet=False) as show:
        show(3, "loss 0.5")
    assert "3/3" in capsys.readouterr().err
