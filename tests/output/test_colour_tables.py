"""Viewers get the names and colours of the label table, in the syntax that they read."""

from __future__ import annotations

import re
from pathlib import Path

from diffseglung.labels import ALL
from diffseglung.output import colour_tables, write
from diffseglung.segmentation import Segmentation


def test_slicer_s_table_has_six_columns_and_every_label() -> None:
    rows = [line.split() for line in colour_tables.slicer_table().splitlines() if not line.startswith("#")]
    assert all(len(row) == 6 for row in rows)
    found = {int(row[0]): (row[1].replace("_", " "), tuple(map(int, row[2:5]))) for row in rows}
    assert found == {label.id: (label.title, label.colour) for label in ALL}
    assert [int(row[5]) for row in rows] == [0] + [255] * (len(ALL) - 1)


def test_snap_s_table_has_eight_columns_and_every_label() -> None:
    pattern = re.compile(r'^\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+([\d.]+)\s+([01])\s+([01])\s+"([^"]*)"$')
    rows = [pattern.match(line) for line in colour_tables.snap_table().splitlines() if not line.startswith("#")]
    assert all(rows)
    found = {int(row[1]): tuple(int(row[k]) for k in (2, 3, 4)) for row in rows if row}
    assert found == {label.id: label.colour for label in ALL}
    assert rows[0] is not None
    assert rows[0][8] == "Clear Label"


def test_both_lie_beside_the_label_map(chest: Segmentation, tmp_path: Path) -> None:
    names = {path.name for path in write(chest, tmp_path / "out")}
    assert {"label_map.nii.gz", colour_tables.SLICER, colour_tables.SNAP} <= names
