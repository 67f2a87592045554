"""Cutting and blending are inverse; chosen patches hold lung."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffseglung.method.patches import blend, choose_corners, cut, lung_corners, taper, tile_corners
from diffseglung.platform.errors import InputError

sides = st.tuples(*[st.integers(3, 14)] * 3)
tiles = st.tuples(*[st.integers(2, 9)] * 3)


@settings(deadline=None, max_examples=40)
@given(shape=sides, tile=tiles, overlap=st.sampled_from([0.0, 0.25, 0.5]))
def test_blending_untouched_tiles_returns_the_volume(shape, tile, overlap):
    volume = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    corners = tile_corners(shape, tile, overlap)
    back = blend(((corner, cut(volume, corner, tile)) for corner in corners), shape)
    np.testing.assert_allclose(back, volume, atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(shape=sides, tile=tiles)
def test_neighbouring_tiles_share_at_least_the_overlap(shape, tile):
    for axis in range(3):
        starts = sorted({corner[axis] for corner in tile_corners(shape, tile, 0.5)})
        assert starts[0] == 0
        assert starts[-1] == max(shape[axis] - tile[axis], 0)
        assert all(b - a <= max(tile[axis] * 0.5, 1) + 1 for a, b in itertools.pairwise(starts))


def test_uncovered_voxels_are_nan_not_zero():
    back = blend([((0, 0, 0), np.ones((2, 2, 2), np.float32))], (2, 2, 4))
    assert np.isnan(back[..., 2:]).all()
    assert (back[..., :2] == 1).all()


def test_overlapping_tiles_are_averaged_by_the_window():
    parts = [((0, 0, 0), np.zeros((1, 1, 2))), ((0, 0, 1), np.ones((1, 1, 2)))]
    back = blend(parts, (1, 1, 3))
    np.testing.assert_allclose(back[0, 0], [0, 0.5, 1])


def test_blending_nothing_is_an_error():
    with pytest.raises(InputError, match="no tiles"):
        blend([], (2, 2, 2))


def test_cut_fills_what_lies_beyond_the_grid():
    patch = cut(np.ones((2, 3, 4)), (-1, 1, 2), (4, 4, 4), fill=-1)
    assert patch.sum() == 2 * 2 * 2 - (64 - 8)


def test_only_tiles_with_lung_are_kept():
    lungs = np.zeros((4, 4, 8), np.uint8)
    lungs[0, 0, 7] = 2
    assert lung_corners(tile_corners(lungs.shape, (4, 4, 4)), (4, 4, 4), lungs) == [(0, 0, 4)]


def test_taper_is_positive_symmetric_and_highest_in_the_middle():
    window = taper((4, 5, 6))
    assert (window > 0).all()
    np.testing.assert_allclose(window, window[::-1, ::-1, ::-1], rtol=1e-5)
    assert window.argmax() in np.flatnonzero(np.isclose(window, window[1, 2, 2]))


def test_chosen_patches_reach_the_wanted_lung_share():
    lungs = np.zeros((20, 30, 30), np.uint8)
    lungs[:, 5:25, 5:15] = 1
    corners = choose_corners(lungs, (8, 8, 8), count=30, min_lung_fraction=0.5, rng=np.random.default_rng(1))
    shares = [cut(lungs, corner, (8, 8, 8)).mean() for corner in corners]
    assert min(shares) >= 0.5
    assert len(set(corners)) > 10


def test_thin_lungs_still_give_patches_on_the_lung():
    lungs = np.zeros((20, 20, 20), np.uint8)
    lungs[:, 10, 10] = 1
    corners = choose_corners(lungs, (8, 8, 8), count=5, min_lung_fraction=0.9, rng=np.random.default_rng(0))
    assert all(cut(lungs, corner, (8, 8, 8)).any() for corner in corners)


def test_a_grid_smaller_than_the_patch_lies_in_its_middle():
    lungs = np.ones((4, 30, 30), np.uint8)
    corner = choose_corners(lungs, (8, 8, 8), count=1, min_lung_fraction=0.4, rng=np.random.default_rng(0))[0]
    assert corner[0] == -2
    assert cut(lungs, corner, (8, 8, 8))[2:6].all()


def test_an_empty_mask_is_an_error():
    with pytest.raises(InputError, match="lung mask is empty"):
        choose_corners(np.zeros((4, 4, 4)), (2, 2, 2), count=1, min_lung_fraction=0, rng=np.random.default_rng(0))
