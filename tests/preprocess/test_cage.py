from __future__ import annotations

import numpy as np

from diffseglung.preprocess.cage import fill_towards_cage
from diffseglung.preprocess.coarse import Coarse


def half_disc(hole: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, Coarse]:
    """Two half cylinders of lung around a mediastinum, 2 mm voxels."""
    _, y, x = np.indices((40, 90, 110))
    radius = np.hypot(y - 45, (x - 55) * 0.8)
    lungs = (radius < 38) & (np.abs(x - 55) > 12)
    if hole is not None:
        lungs &= ~hole
    sides = np.where(x < 55, 1, 2).astype(np.uint8)
    hu = np.where(lungs, -850, 40).astype(np.float32)
    return lungs, sides, Coarse(hu, (2.0, 2.0, 2.0), (1, 1, 1))


def test_healthy_lungs_stay_as_they_are() -> None:
    lungs, sides, coarse = half_disc()
    filled = fill_towards_cage(lungs, sides, coarse, 30.0)
    assert (filled & ~lungs).sum() < 0.01 * lungs.sum()
    assert (filled | ~lungs).all()


def test_a_dent_of_the_costal_surface_is_filled_and_one_of_the_medial_is_not() -> None:
    z, y, x = np.indices((40, 90, 110))
    costal = np.sqrt((z - 20.0) ** 2 + (y - 45) ** 2 + (x - 8) ** 2) < 9
    medial = np.sqrt((z - 20.0) ** 2 + (y - 45) ** 2 + (x - 68) ** 2) < 7
    whole, *_ = half_disc()
    lungs, sides, coarse = half_disc(costal | medial)
    filled = fill_towards_cage(lungs, sides, coarse, 30.0)
    assert filled[costal & whole].mean() > 0.85
    assert filled[medial & whole].mean() < 0.1


def test_no_reach_no_filling() -> None:
    lungs, sides, coarse = half_disc()
    np.testing.assert_array_equal(fill_towards_cage(lungs, sides, coarse, 0.0), lungs)
