"""Medians at chosen voxels are those of a median filter."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from diffseglung.case.median import median_at


def test_medians_are_those_of_the_filter_at_any_voxels() -> None:
    hu = np.random.default_rng(0).normal(-800, 60, (9, 11, 13)).astype(np.float32)
    voxels = np.argwhere(np.random.default_rng(1).random(hu.shape) < 0.3)
    expected = ndimage.median_filter(hu, 3, mode="nearest")[tuple(voxels.T)]
    np.testing.assert_array_equal(median_at(hu, voxels), expected)
    assert median_at(hu, voxels[:0]).shape == (0,)
