"""Local binary patterns against scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.feature import local_binary_pattern

from diffseglung.method.radiomics.lbp import BINS, codes, codes_batch, lbp_plane

from .conftest import Patch


def test_codes_are_scikit_images() -> None:
    """Every pixel, borders included: both take what is beyond as 0."""
    plane = np.random.default_rng(3).integers(-30000, 30000, (40, 37))
    oracle = local_binary_pattern(plane, 8, 1, method="uniform").astype(int)
    assert (codes(plane) == oracle).all()
    assert (codes_batch(torch.from_numpy(plane).float()[None])[0].numpy() == oracle).all()


def test_codes_are_scikit_images_on_a_real_plane(real: Patch) -> None:
    """Integer HU; scikit-image decides ties by rounding, so flat ground may differ in a pixel or two."""
    plane = real[0][16].astype(np.int64)
    oracle = local_binary_pattern(plane, 8, 1, method="uniform").astype(int)
    assert (codes(plane) != oracle).mean() < 0.005
    assert (codes_batch(torch.from_numpy(plane).float()[None])[0].numpy() == codes(plane)).all()


def test_flat_ground_is_all_bright() -> None:
    """Equal counts as bright, and rounding does not decide: code 8 throughout, at any level."""
    for level in (-1000.0, -3.7, 0.1, 333.3):
        plane = np.full((9, 9), level)
        assert (codes(plane)[1:-1, 1:-1] == 8).all()
        assert (codes_batch(torch.full((1, 9, 9), level))[0, 1:-1, 1:-1] == 8).all()


def test_a_spot_a_pit_and_an_edge() -> None:
    """A bright pixel has no brighter neighbour, a dark one eight; along a straight edge the pattern stays uniform."""
    plane = np.zeros((7, 7))
    plane[3, 3] = 5
    assert codes(plane)[3, 3] == 0
    assert codes(-plane)[3, 3] == 8
    edge = np.zeros((7, 7))
    edge[:, 4:] = 100
    assert codes(edge)[3, 4] == 5
    saddle = np.zeros((7, 7))
    saddle[:3, :3] = saddle[4:, 4:] = -90
    assert codes(saddle)[3, 3] == BINS - 1


def test_turning_the_plane_turns_the_codes() -> None:
    plane = np.random.default_rng(5).normal(0, 100, (12, 12))
    assert (codes(np.rot90(plane)) == np.rot90(codes(plane))).all()


def test_shares_count_lung_pixels_only(noise: Patch) -> None:
    plane, mask = noise[0][6] + 800, noise[1][6]
    shares = lbp_plane(plane, mask)
    assert shares.sum() == pytest.approx(1)
    assert shares == pytest.approx(np.bincount(codes(plane)[mask], minlength=BINS) / mask.sum())
    assert np.isnan(lbp_plane(plane, np.zeros_like(mask))).all()


@pytest.mark.parametrize(("gap", "code"), [(0.0, 8), (0.01, 8), (0.0101, 9)])
def test_a_hundredth_of_a_hu_is_a_tie(gap: float, code: int) -> None:
    """Four neighbours darker by the gap: as bright as the centre, or a pattern of eight changes."""
    plane = np.zeros((5, 5))
    plane[1, 2] = plane[3, 2] = plane[2, 1] = plane[2, 3] = -gap
    plane[1, 1] = plane[1, 3] = plane[3, 1] = plane[3, 3] = 90
    assert codes(plane)[2, 2] == code
    assert codes_batch(torch.from_numpy(plane).float()[None])[0, 2, 2] == code


def test_each_plane_of_a_batch_is_coded_alone() -> None:
    planes = np.random.default_rng(1).normal(0, 100, (3, 6, 9))
    fast = codes_batch(torch.from_numpy(planes))
    assert fast.dtype == torch.uint8
    assert (fast.numpy() == np.stack([codes(plane) for plane in planes])).all()
