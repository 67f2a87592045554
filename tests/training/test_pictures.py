"""The contact sheet."""

from __future__ import annotations

import io

import matplotlib.image
import numpy as np
import pytest

from diffseglung.training.pictures import GAP, contact_sheet


def grey(png: bytes) -> np.ndarray:
    return matplotlib.image.imread(io.BytesIO(png), format="png")[..., 0]


def test_the_sheet_holds_three_views_of_each_patch() -> None:
    patches = np.full((3, 6, 10, 14), -600.0)
    sheet = grey(contact_sheet(patches, columns=2, scale=3))
    height, width = 3 * (10 + 1 + 6 + 1 + 6), 3 * 14
    assert sheet.shape == (2 * (height + GAP) + GAP, 2 * (width + GAP) + GAP)
    assert sheet[GAP, GAP] == pytest.approx(0.5, abs=0.01)


def test_the_lung_window_is_used() -> None:
    levels = [
        grey(contact_sheet(np.full((1, 2, 2, 2), hu), scale=1))[GAP, GAP] for hu in (-2000, -1350, -600, 150, 900)
    ]
    np.testing.assert_allclose(levels, [0, 0, 0.5, 1, 1], atol=0.01)


def test_front_and_head_are_up() -> None:
    patch = np.full((4, 6, 8), -1350.0)
    patch[:, 0] = 150  # front
    patch[-1] = 150  # head
    sheet = grey(contact_sheet(patch[None], scale=1))
    axial, coronal = sheet[GAP : GAP + 6, GAP : GAP + 8], sheet[GAP + 7 : GAP + 11, GAP : GAP + 8]
    assert axial[0].min() > 0.9 > axial[1:].max()
    assert coronal[0].min() > 0.9 > coronal[1:].max()


@pytest.mark.parametrize("count", [1, 2, 7, 16])
def test_any_number_of_patches_fits_a_landscape_sheet(count: int) -> None:
    sheet = grey(contact_sheet(np.zeros((count, 8, 16, 16), np.float32)))
    assert sheet.shape[0] <= 2 * sheet.shape[1]


def test_equal_patches_give_equal_bytes() -> None:
    patches = np.random.default_rng(0).uniform(-1000, 400, (2, 4, 8, 8))
    assert contact_sheet(patches) == contact_sheet(patches)
