"""Patches for the radiomics tests: one of a real lung, one made of noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).parents[2] / "golden"
Patch = tuple[np.ndarray, np.ndarray]


@pytest.fixture
def real() -> Patch:
    """A 32-voxel cube of a real CT with lung, chest wall and vessels (see tests/golden/SOURCE.txt)."""
    with np.load(GOLDEN / "lung_patch.npz") as file:
        return file["hu"].astype(np.float32), file["lung"] > 0


@pytest.fixture
def noise() -> Patch:
    """Odd-sized smooth noise around -800 HU with a ragged lung mask."""
    rng = np.random.default_rng(7)
    hu = rng.normal(-800, 120, (13, 13, 13)).astype(np.float32)
    return hu, rng.random(hu.shape) < 0.8


@pytest.fixture
def scan(real: Patch) -> Patch:
    """The real patch inside a larger scan of chest wall: 40 x 44 x 48 voxels."""
    margins = ((4, 4), (4, 8), (8, 8))
    return np.pad(real[0], margins, constant_values=40), np.pad(real[1], margins)
