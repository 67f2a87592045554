"""Label map and probabilities lie exactly on the input's grid and explain themselves."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from diffseglung import output
from diffseglung.io.nifti import read_nifti
from diffseglung.labels import ALL
from diffseglung.output import Products
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
