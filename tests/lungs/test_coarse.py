from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from diffseglung.lungs.coarse import Coarse, close, fine_cross, shrink, slice_hulls, within
from diffseglung.volume import Volume

SPACING = (3.0, 2.0, 1.5)


@pytest.fixture
def blobs() -> np.ndarray:
    return ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(20, 30, 40)), 3) > 0.02


def test_blocks_hold_means_and_spread_back_over_the_scan(oblique_affine: np.ndarray) -> None:
    hu = np.random.default_rng(0).uniform(-900, 100, (6, 9, 11)).astype(np.float32)
    coarse = Coarse.of(Volume(hu, oblique_affine), 2.0)  # spacing 2.5, 0.8, 0.7
    assert coarse.factors == (1, 2, 3)
    _, y, x = coarse.skipped
    assert coarse.hu[2, 1, 0] == pytest.approx(hu[2, y + 2 : y + 4, x : x + 3].mean(), abs=1e-3)
    back = coarse.spread(coarse.hu, hu.shape)
    assert back.shape == hu.shape
    assert back[2, y + 3, x + 2] == coarse.hu[2, 1, 0]
    place = coarse.over(Volume(hu, oblique_affine)).affine @ [2, 1, 0, 1]
    np.testing.assert_allclose(place, oblique_affine @ [2, y + 2.5, x + 1, 1], atol=1e-9)


@pytest.mark.parametrize("cut", [(1, 0, 0), (0, 1, 2), (2, 3, 4), (0, 0, 1)])
def test_a_crop_does_not_shift_the_blocks(oblique_affine: np.ndarray, cut: tuple[int, int, int]) -> None:
    hu = np.random.default_rng(1).uniform(-900, 100, (12, 20, 24)).astype(np.float32)
    ct = Volume(hu, oblique_affine)
    whole, part = Coarse.of(ct, 2.0), Coarse.of(ct.crop(cut, hu.shape), 2.0)
    first = np.linalg.solve(whole.over(ct).affine, part.over(ct.crop(cut, hu.shape)).affine)[:3, 3]
    np.testing.assert_allclose(first, np.rint(first), atol=1e-6)
    z, y, x = np.rint(first).astype(int)
    np.testing.assert_array_equal(whole.hu[z:, y:, x:], part.hu)


def test_padding_and_metal_do_not_leak_into_blocks(oblique_affine: np.ndarray) -> None:
    hu = np.full((4, 4, 6), -3024, np.float32)
    assert Coarse.of(Volume(hu, oblique_affine), 2.0).hu.min() >= -1024


def test_balls_are_exact_distances(blobs: np.ndarray) -> None:
    far = ndimage.distance_transform_edt(~blobs, sampling=SPACING)
    np.testing.assert_array_equal(within(blobs, 4.0, SPACING), far <= 4.0)
    deep = ndimage.distance_transform_edt(blobs, sampling=SPACING)
    np.testing.assert_array_equal(shrink(blobs, 4.0, SPACING), deep > 4.0)


def test_closing_only_adds_and_is_idempotent(blobs: np.ndarray) -> None:
    once = close(blobs, 5.0, SPACING)
    assert (once | ~blobs).all()
    np.testing.assert_array_equal(close(once, 5.0, SPACING), once)


def test_slice_hull_of_a_convex_shape_is_itself_and_of_two_discs_is_their_bridge() -> None:
    y, x = np.indices((30, 50))
    disc = np.hypot(y - 15, x - 12) < 9
    both = disc | (np.hypot(y - 15, x - 36) < 9)
    hulls = slice_hulls(np.stack([disc, both, np.zeros_like(disc)]))
    np.testing.assert_array_equal(hulls[0], disc)
    assert hulls[1, 15].sum() == both[15].nonzero()[0].max() - both[15].nonzero()[0].min() + 1
    assert not hulls[2].any()


def test_thick_slices_are_left_out_of_thin_steps() -> None:
    assert fine_cross((8.0, 2.0, 2.0)).sum() == 5
    assert fine_cross((4.0, 4.0, 4.0)).sum() == 7
