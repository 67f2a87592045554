"""Dense disease against the chest wall: what lies between the lung that is seen and the thoracic cage.

Seen from the middle of the mediastinum, the costal surface of a lung is a smooth function of height and angle. Dense
disease makes dents in it; heart, hilum and liver dome do not, because lung lies beyond them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diffseglung.preprocess.coarse import Coarse, Mask, slice_hulls

ANGLES = 120
TYPICAL_RADIUS_MM = 90.0
"""Distance of the chest wall at which a length along it is turned into an angle."""
DENSEST_HU = 150.0
"""Above this is bone, not consolidation."""
BULGE_MM = 4.0
"""How far the smooth surface may rise over the rim of a dent: the arch of the chest wall over a few centimetres."""
DENT_MM = 4.0
"""Shallower unevenness of the costal surface is left as it is."""
THICKEST_MM = 45.0
"""A gap deeper than this between aerated lung and cage is an organ below the diaphragm."""
OFF_RIM_MM = 15.0
"""A dent whose outer end is farther than this inside the hull of both lungs is not at the chest wall."""
EDGE_MM = 6.0
"""Disease may lie this far inside the lung's farthest voxel on its ray: the rays at the rim of a dent meet both."""
DEEPEST_MM = 30.0
"""How far behind the cage disease is taken in where its ray meets no aerated lung."""


@dataclass(frozen=True, eq=False)
class Rays:
    """Axial polar coordinates. radius_mm and bins: (Y, X), distance and angle index."""

    radius_mm: NDArray[np.float64]
    bins: NDArray[np.int64]

    @classmethod
    def around(cls, middle: tuple[float, float], coarse: Coarse) -> Rays:
        """Rays from `middle`, a (y, x) index."""
        _, dy, dx = coarse.spacing_mm
        y = (np.arange(coarse.hu.shape[1]) - middle[0])[:, None] * dy
        x = (np.arange(coarse.hu.shape[2]) - middle[1])[None] * dx
        turn = np.arctan2(y, x) / (2 * np.pi) + 0.5
        return cls(np.hypot(y, x), np.minimum((turn * ANGLES).astype(np.int64), ANGLES - 1))

    def outermost(self, mask: Mask) -> NDArray[np.float64]:
        """(Z, ANGLES): distance of the farthest voxel of the mask, 0 where a ray meets none."""
        reach = np.zeros((len(mask), ANGLES))
        z, y, x = np.nonzero(mask)
        np.maximum.at(reach, (z, self.bins[y, x]), self.radius_mm[y, x])
        return reach

    def innermost(self, mask: Mask) -> NDArray[np.float64]:
        """(Z, ANGLES): distance of the nearest voxel of the mask, infinite where a ray meets none."""
        inner = np.full((len(mask), ANGLES), np.inf)
        z, y, x = np.nonzero(mask)
        np.minimum.at(inner, (z, self.bins[y, x]), self.radius_mm[y, x])
        return inner


def fill_towards_cage(lungs: Mask, sides: NDArray[np.uint8], coarse: Coarse, reach_mm: float) -> Mask:
    """Lungs (Z, Y, X) with the dents of their costal surface filled, up to 2 * `reach_mm` wide.

    A dent is bounded by the closing of the costal surface, as a function of height and angle, and by the convex hull
    of the lung in the slice; voxels with lung beyond them on their ray, and bone, stay out.
    """
    filled = lungs.copy()
    if reach_mm <= 0:
        return filled
    rays = Rays.around(_mediastinum(lungs, sides), coarse)
    bins, radius = rays.bins, rays.radius_mm
    rim = rays.outermost(slice_hulls(lungs))
    for side in np.unique(sides[lungs]):
        lung = lungs & (sides == side)
        reach = rays.outermost(lung)  # (Z, ANGLES)
        wall = _close_surface(reach, 2 * reach_mm, coarse.spacing_mm[0])
        start = _start(reach, rays.innermost(lung), wall, coarse.spacing_mm[0], 2 * reach_mm)
        start[wall < rim - OFF_RIM_MM] = np.inf
        behind = radius >= start[:, bins]
        near = radius <= (reach + THICKEST_MM)[:, bins]
        inside = (radius <= wall[:, bins]) | (slice_hulls(lung) & (reach > 0)[:, bins] & near)
        filled |= behind & inside & (coarse.hu < DENSEST_HU)
    dents = ndimage.binary_opening(filled & ~lungs, np.ones((1, 3, 3), bool))
    return np.asarray(lungs | dents, bool)


def _start(
    reach: NDArray[np.float64], inner: NDArray[np.float64], wall: NDArray[np.float64], step_mm: float, width_mm: float
) -> NDArray[np.float64]:
    """(Z, ANGLES): radius from which disease may be taken in, infinite where it may not.

    Behind the aerated lung of the ray; where the ray meets none, as deep as the lung above and below it lies.
    """
    edge = np.maximum(ndimage.minimum_filter(reach, (1, 3), mode="wrap"), reach - EDGE_MM)
    rows = np.arange(len(reach))[:, None]
    below = np.maximum.accumulate(np.where(reach > 0, rows, -1), axis=0)
    above = np.minimum.accumulate(np.where(reach > 0, rows, len(reach))[::-1], axis=0)[::-1]
    between = (below >= 0) & (above < len(reach)) & ((above - below) * step_mm <= width_mm)
    columns = np.arange(ANGLES)[None]
    depths = [inner[np.clip(row, 0, len(reach) - 1), columns] for row in (below, above)]
    missing = np.maximum(np.maximum(*depths), wall - DEEPEST_MM)
    edge[wall - reach > THICKEST_MM] = np.inf
    return np.where(reach > 0, edge, np.where(between, missing, np.inf))


def _close_surface(reach: NDArray[np.float64], width_mm: float, step_mm: float) -> NDArray[np.float64]:
    """The costal surface (Z, ANGLES) without dents narrower than `width_mm`: grey closing, then a smooth cover."""
    tall = 2 * round(width_mm / step_mm / 2) + 1
    wide = 2 * round(width_mm / TYPICAL_RADIUS_MM * ANGLES / (2 * np.pi) / 2) + 1
    padded = np.pad(np.pad(reach, [(tall, tall), (0, 0)]), [(0, 0), (wide, wide)], mode="wrap")
    closed = ndimage.grey_closing(padded, (tall, wide))
    dents = ndimage.binary_dilation(closed - padded > DENT_MM, np.ones((3, 3), bool))
    known = ((padded > 0) & ~dents).astype(np.float64)
    for share in (0.2, 0.4):  # smooth over the dents from their surroundings, near ones first
        sigma = (share * tall, share * wide)
        weight = ndimage.gaussian_filter(known, sigma, mode="nearest")
        level = ndimage.gaussian_filter(known * padded, sigma, mode="nearest") / np.maximum(weight, 1e-9)
        fill = dents & (closed > 0) & (weight > 0.02)
        closed = np.where(fill, np.clip(level, closed, closed + BULGE_MM), closed)
        dents &= ~fill
    return np.asarray(closed[tall:-tall, wide:-wide], np.float64)


def _mediastinum(lungs: Mask, sides: NDArray[np.uint8]) -> tuple[float, float]:
    """(y, x) of the middle between the lungs, or the medial end of a single one."""
    present = np.unique(sides[lungs])
    _, y, _ = ndimage.center_of_mass(lungs)
    centres = [ndimage.center_of_mass(lungs & (sides == side))[2] for side in present]
    if len(centres) == 2:
        return float(y), float(np.mean(centres))
    columns = np.flatnonzero(lungs.any(axis=(0, 1)))
    return float(y), float(columns[-1] if present[0] == 1 else columns[0])
