"""Label map and probabilities lie exactly on the input's grid and explain themselves."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel as nib
import numpy as np

from diffseglung import output
from diffseglung.io.nifti import read_nifti
from diffseglung.labels import ALL
from diffseglung.output import Products, write
from diffseglung.output.label_map import SLICER, SNAP, slicer_table, snap_table
from diffseglung.segmentation import Segmentation


def test_the_label_map_keeps_grid_values_and_type(chest: Segmentation, tmp_path: Path) -> None:
    output.write(chest, tmp_path)
    back = read_nifti(tmp_path / "label_map.nii.gz")
    assert back.array.dtype == np.uint8
    np.testing.assert_array_equal(back.array, chest.label_map.array)
    np.testing.assert_allclose(back.affine, chest.ct.affine, atol=1e-4)


def test_the_header_names_every_label(chest: Segmentation, tmp_path: Path) -> None:
    output.write(chest, tmp_path)
    image = nib.load(tmp_path / "label_map.nii.gz")
    text = b"".join(bytes(e.get_content()) if isinstance(e.get_content(), bytes) else str(e.get_content()).encode()
                    for e in image.header.extensions).decode()  # fmt: skip
    assert all(label.name in text.lower() for label in ALL[1:])


def test_probabilities_are_the_posterior_on_the_same_grid(chest: Segmentation, tmp_path: Path) -> None:
    output.write(chest, tmp_path, Products(probabilities=True))
    image = nib.load(tmp_path / "probabilities.nii.gz")
    values = np.asarray(image.get_fdata(), np.float32)
    assert values.shape == (*chest.ct.shape[::-1], 5)
    np.testing.assert_allclose(values.transpose(2, 1, 0, 3), chest.posterior, atol=0.5 / 255 + 1e-3)
    np.testing.assert_allclose(image.affine, nib.load(tmp_path / "label_map.nii.gz").affine)
    best = values.argmax(-1) + 1
    best[values.sum(-1) < 0.5] = 0
    np.testing.assert_array_equal(best.transpose(2, 1, 0), chest.label_map.array)


def test_slicer_s_table_has_six_columns_and_every_label() -> None:
    rows = [line.split() for line in slicer_table().splitlines() if not line.startswith("#")]
    assert all(len(row) == 6 for row in rows)
    found = {int(row[0]): (row[1].replace("_", " "), tuple(map(int, row[2:5]))) for row in rows}
    assert found == {label.id: (label.title, label.colour) for label in ALL}
    assert [int(row[5]) for row in rows] == [0] + [255] * (len(ALL) - 1)


def test_snap_s_table_has_eight_columns_and_every_label() -> None:
    pattern = re.compile(r'^\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+([\d.]+)\s+([01])\s+([01])\s+"([^"]*)"$')
    rows = [pattern.match(line) for line in snap_table().splitlines() if not line.startswith("#")]
    assert all(rows)
    found = {int(row[1]): tuple(int(row[k]) for k in (2, 3, 4)) for row in rows if row}
    assert found == {label.id: label.colour for label in ALL}
    assert rows[0] is not None
    assert rows[0][8] == "Clear Label"


def test_both_lie_beside_the_label_map(chest: Segmentation, tmp_path: Path) -> None:
    names = {path.name for path in write(chest, tmp_path / "out")}
    assert {"label_map.nii.gz", SLICER, SNAP} <= names
