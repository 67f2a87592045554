"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from diffseglung.volume import Volume

ROOT = Path(__file__).parents[1]


@pytest.fixture
def shared_data() -> Path:
    """Folder of real CTs outside the repository; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("DIFFSEGLUNG_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no folder of real CTs (set DIFFSEGLUNG_DATA)")
    return folder


@pytest.fixture
def oblique_affine() -> np.ndarray:
    """Tilted, anisotropic and flipped: a grid on which mistakes in axis order cannot hide."""
    tilt = np.deg2rad(12)
    rotation = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.array([[0, 0, -0.7], [0, 0.8, 0], [2.5, 0, 0]])
    affine[:3, 3] = (31.0, -7.5, 120.25)
    return affine


@pytest.fixture
def oblique(oblique_affine: np.ndarray) -> Volume:
    """A small random CT on the oblique grid."""
    hu = np.random.default_rng(0).integers(-1000, 400, (5, 7, 9)).astype(np.float32)
    return Volume(hu, oblique_affine)
