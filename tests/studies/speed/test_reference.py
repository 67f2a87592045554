"""The published way: its parts are counted on the scan's own lungs."""

from __future__ import annotations

import numpy as np
import pytest

from studies.speed.reference import FEATURES, PATCH, reference


def test_patches_and_voxels_are_those_of_the_lungs() -> None:
    lungs = np.zeros((70, 120, 110), np.uint8)
    lungs[3:67, 10:106, 5:101] = 1  # 64 x 96 x 96 voxels
    found = reference(lungs, 1, size="tiny", rows=500)
    assert found.voxels == found.box == 64 * 96 * 96
    assert found.patches == 3  # along z only, overlapping by half
    assert found.peak_mib == pytest.approx(2 * 64 * 96 * 96 * FEATURES * 4 / 2**20)
    assert found.cost.seconds == pytest.approx(3 * found.patch_s[0] + found.voxels * found.voxel_s[0])
    assert PATCH == (32, 96, 96)
