"""Dense disease against the chest wall: what lies between the lung that is seen and the thoracic cage."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diffseglung.preprocess.coarse import Coarse, Mask, Spacing, bounds, close

ANGLES = 180
DENSEST_HU = 150.0
"""Above this is bone, not consolidation."""
NEAR_SLICES_MM = 12.0


def fill_towards_cage(lungs: Mask, sides: NDArray[np.uint8], coarse: Coarse, reach_mm: float) -> Mask:
    """Lungs (Z, Y, X) with the dents of their costal surface closed, each side by a ball of `reach_mm`.

    A dent is costal when no lung lies beyond it on the ray from the middle of the mediastinum; heart, hilum and
    liver dome have lung beyond them and stay out.
    """
    if reach_mm <= 0:
        return lungs
    closed = lungs.copy()
    for side in np.unique(sides[lungs]):
        lung = lungs & (sides == side)
        box = bounds(lung)
        closed[box] |= _close_coarsely(lung[box], coarse.spacing_mm, reach_mm)
    dents = ndimage.binary_opening(closed & ~lungs, np.ones((1, 3, 3), bool)) & (coarse.hu < DENSEST_HU)
    return lungs | (dents & _beyond(lungs, sides, coarse))


def _close_coarsely(lung: Mask, spacing_mm: Spacing, reach_mm: float) -> Mask:
    """Closing on every second voxel, where a large ball costs an eighth; shallower by half a voxel of that grid."""
    steps = [2 if spacing < 3.0 else 1 for spacing in spacing_mm]
    thin = lung[:: steps[0], :: steps[1], :: steps[2]]
    if not thin.any():
        return lung
    z, y, x = (step * spacing for step, spacing in zip(steps, spacing_mm, strict=True))
    closed = close(thin, reach_mm, (z, y, x), back_mm=0.5 * min(z, y, x))
    for axis, step in enumerate(steps):
        closed = np.repeat(closed, step, axis)
    return closed[: lung.shape[0], : lung.shape[1], : lung.shape[2]]


def _beyond(lungs: Mask, sides: NDArray[np.uint8], coarse: Coarse) -> Mask:
    """Voxels farther out than the lung of their slice, on rays that meet lung in this or a neighbouring slice."""
    middle_y, middle_x = _mediastinum(lungs, sides)
    _, dy, dx = coarse.spacing_mm
    y = (np.arange(lungs.shape[1]) - middle_y)[:, None] * dy
    x = (np.arange(lungs.shape[2]) - middle_x)[None] * dx
    radius = np.hypot(y, x)  # (Y, X)
    bins = ((np.arctan2(y, x) / (2 * np.pi) + 0.5) * ANGLES).astype(int) % ANGLES
    reach = np.zeros((len(lungs), ANGLES))
    z, row, column = np.nonzero(lungs)
    np.maximum.at(reach, (z, bins[row, column]), radius[row, column])
    near = 2 * round(NEAR_SLICES_MM / coarse.spacing_mm[0]) + 1
    met = ndimage.maximum_filter(reach, (near, 5), mode=("nearest", "wrap")) > 0
    return np.asarray((radius >= reach[:, bins]) & met[:, bins])


def _mediastinum(lungs: Mask, sides: NDArray[np.uint8]) -> tuple[float, float]:
    """(y, x) of the middle between the lungs, or the medial end of a single one."""
    present = np.unique(sides[lungs])
    _, y, _ = ndimage.center_of_mass(lungs)
    centres = [ndimage.center_of_mass(lungs & (sides == side))[2] for side in present]
    if len(centres) == 2:
        return float(y), float(np.mean(centres))
    columns = np.flatnonzero(lungs.any(axis=(0, 1)))
    return float(y), float(columns[-1] if present[0] == 1 else columns[0])
