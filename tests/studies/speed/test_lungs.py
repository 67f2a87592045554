"""SciPy's plain mask is of the same lungs as ours."""

from __future__ import annotations

from pathlib import Path

from studies.speed.lungs import rows


def test_both_masks_are_of_the_same_lungs(tmp_path: Path) -> None:
    (row,) = rows(tmp_path, size="small", repeats=1)
    assert float(row.note.split()[-1]) > 0.85
    assert row.ratio is not None
