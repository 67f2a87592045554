"""What is drawn at a place is found at that place: no part of the way shifts the label map."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from diffseglung.pipeline import Segmenter
from diffseglung.platform.config import SegmentConfig
from diffseglung.volume import Volume

SIZE, HU, PHASES = 56, -960.0, (0, 1, 2)
"""Voxels of 1 mm; emphysema, whose borders the voxels' own HU hardly mends; shifts that meet the grids of 1.5 and 3 mm
at every phase."""
TURNED = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
GRIDS = {"straight": np.eye(3), "flipped": -np.eye(3), "oblique": TURNED}


@cache
def segmenter() -> Segmenter:
    return Segmenter.load(None, config=SegmentConfig(method="physics"), device="cpu")


def gap(lesion: NDArray[np.bool_], directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """From the centre of a lesion drawn in a box of lung to that of what is found, (3,) voxels."""
    lungs = np.zeros((SIZE,) * 3, bool)
    lungs[(slice(6, -6),) * 3] = True
    tissue = np.where(lesion, HU, -860.0) + np.random.default_rng(0).normal(0, 20, lungs.shape)
    affine = np.eye(4)
    affine[:3, :3] = directions
    ct = Volume(np.where(lungs, tissue, 40.0).astype(np.float32), affine)
    found = segmenter()(ct, ct.with_array(lungs.astype(np.uint8))).label_map.array > 1
    inner = np.zeros_like(lungs)
    inner[(slice(14, -14),) * 3] = True
    centres = [np.array(ndimage.center_of_mass(mask & inner)) for mask in (found, lesion)]
    return centres[0] - centres[1]


@pytest.mark.parametrize("grid", GRIDS)
def test_slabs_come_back_at_their_place(grid: str) -> None:
    place = np.indices((SIZE,) * 3)
    for axis in range(3):
        gaps = [gap((place[axis] >= 20 + p) & (place[axis] < 36 + p), GRIDS[grid])[axis] for p in PHASES]
        assert abs(np.mean(gaps)) < 0.25
        assert np.abs(gaps).max() < 0.75


@pytest.mark.parametrize("grid", GRIDS)
def test_spheres_come_back_at_their_place(grid: str) -> None:
    place = np.indices((SIZE,) * 3)
    spheres = [((place - (26.0 + p)) ** 2).sum(0) < 11**2 for p in PHASES]
    gaps = np.array([gap(sphere, GRIDS[grid]) for sphere in spheres])
    assert np.abs(gaps.mean(0)).max() < 0.25
    assert np.abs(gaps).max() < 0.75
