"""Healthy level of a scan: HU of normal lung at this inspiration, by height in the chest.

Mild emphysema differs from healthy lung by less than two patients differ from each other, and dependent lung is denser
by tens of HU. So the healthy level (the mode of local medians, with a weak prior) and its front-to-back slope are
estimated from the scan, and a monotone map takes air, the healthy level and soft tissue to fixed values.

The two lungs of a patient may be aerated differently: distal to a narrowed bronchus, or underperfused, a lung may be
100 HU below the other, and no common level fits. Each lung then has its own level, provided that most of it can be
healthy lung, between -910 HU (deep inspiration) and -750 HU (where ground glass begins), and that it weighs no more
than a lung does. A lung full of ground glass is denser or heavier, and keeps the common level.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diffseglung.io.plausibility import air_peak_hu, darkest_hu
from diffseglung.platform.runtime import spread
from diffseglung.volume import Volume

CHUNK = 50_000


def median_at(hu: NDArray[np.float32], voxels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Median (N,) of the 3 x 3 x 3 neighbourhoods of voxels (N, 3), edge voxels repeated.

    Faster than a median filter of the whole grid.

    >>> median_at(np.arange(27, dtype=np.float32).reshape(3, 3, 3), np.array([[1, 1, 1]]))
    array([13.], dtype=float32)
    """
    padded = np.pad(hu, 1, mode="edge")
    strides = np.array([padded.shape[1] * padded.shape[2], padded.shape[2], 1])
    offsets = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), -1).reshape(-1, 3) @ strides
    flat, values = voxels @ strides, padded.ravel()

    def medians(start: int) -> NDArray[np.float32]:
        around = values[flat[start : start + CHUNK, None] + offsets]
        around.partition(13, axis=1)
        return np.array(around[:, 13])

    return np.concatenate([np.empty(0, np.float32), *spread(medians, range(0, len(flat), CHUNK))])


AIR_HU, REFERENCE_HU, TISSUE_HU = -1000.0, -860.0, 0.0
"""Air, healthy lung and soft tissue on the aligned scale.

Normal inspiratory lung measures about -850 to -910 HU, a fitted healthy component -829 (docs/science.md, HU facts).
"""
AIR_ERROR_HU, CLIPPED_HU = 30.0, 8.0
"""Larger calibration errors of air are ignored; air this near to the lowest value of a scan was clipped."""
PRIOR_HU, PRIOR_SD_HU = -850.0, 90.0
"""Wide enough for lungs in expiration (-700 to -790 HU) with emphysema near -850 HU."""
SLOPE_LIMIT = 0.6
NEAR_HU = 60.0
"""Medians this near to the healthy level are healthy."""
APART_HU = 60.0
"""Lungs whose levels differ by more have their own: a common one is wrong by 30 HU, as much as mild emphysema."""
FEWEST_MEDIANS = 500
HEALTHY_HU = (-910.0, -750.0)
"""Range of healthy lung, from deep inspiration to where ground glass begins (docs/science.md)."""
LEAST_LITRES, MOST_KG, LEAST_EVEN = 0.5, 0.6, 0.5
"""Limits for a lung with its own level: volume, weight, and share of medians near that level.

Lungs of near-normal scans weigh 0.39 to 0.50 kg with their blood.
"""


@dataclass(frozen=True)
class HealthyLevel:
    """level_hu: healthy lung at height `middle_mm`; slope: HU per mm towards the back (canonical +Y).

    air_hu: HU of air in this scan.
    """

    level_hu: float
    slope: float
    middle_mm: float
    air_hu: float = AIR_HU

    def at(self, depth_mm: NDArray[np.floating[Any]] | float) -> NDArray[np.float64]:
        """Healthy level (HU) at distances `depth_mm` from the front of the grid."""
        return np.asarray(np.clip(self.level_hu + self.slope * (np.asarray(depth_mm) - self.middle_mm), -970.0, -550.0))


def air_level(ct: Volume) -> float:
    """HU of air in the scan: its peak around the body; -1000 if there is none or it was clipped.

    Correction by the scan's own air made emphysema measures repeatable (Am J Respir Crit Care Med 2004,
    doi 10.1164/rccm.200403-326OC). Aeration is relative to the HU of air and of tissue.
    """
    peak = air_peak_hu(ct)
    if peak is None or abs(peak - AIR_HU) > AIR_ERROR_HU or peak - darkest_hu(ct) < CLIPPED_HU:
        return AIR_HU
    return peak


def _mode(values: NDArray[np.floating[Any]]) -> float:
    """Mode (HU) of values after smoothing by 12 HU, weighted by the prior."""
    counts, edges = np.histogram(values, bins=np.arange(-1000.0, -499.0, 4.0))
    centres = (edges[1:] + edges[:-1]) / 2
    smooth = ndimage.gaussian_filter1d(counts.astype(float), 3.0)
    weight = np.exp(-0.5 * ((centres - PRIOR_HU) / PRIOR_SD_HU) ** 2)
    return float(centres[np.argmax(smooth * weight)])


def healthy_level(hu: NDArray[np.float32], lungs: NDArray[np.bool_], spacing_mm: float) -> HealthyLevel:
    """Estimate from HU (Z, Y, X) on a canonical isotropic grid.

    The level is the mode of local medians, of 3 x 3 x 3 voxels that are all lung; the slope is that of a trimmed
    least-squares line through the medians near it.
    """
    inside = _inner(lungs)
    if len(inside) < FEWEST_MEDIANS:
        return HealthyLevel(_mode(hu[lungs]), 0.0, 0.0)
    return _fitted(median_at(hu, inside), inside[:, 1] * spacing_mm)


def lung_levels(
    hu: NDArray[np.float32], sides: NDArray[np.integer[Any]], spacing_mm: float
) -> tuple[HealthyLevel, HealthyLevel] | None:
    """Levels of the right and the left lung if each has its own (see above), else None.

    sides: (Z, Y, X), 0 outside, 1 right, 2 left.
    """
    voxel_litres, levels = spacing_mm**3 / 1e6, []
    for side in (1, 2):
        lung = sides == side
        inside = _inner(lung)
        if lung.sum() * voxel_litres < LEAST_LITRES or len(inside) < FEWEST_MEDIANS:
            return None
        values, depth = median_at(hu, inside), inside[:, 1] * spacing_mm
        level = _fitted(values, depth)
        even = np.mean(np.abs(values - level.at(depth)) < NEAR_HU)
        weight_kg = np.clip(hu[lung] - AIR_HU, 0, None).sum() * voxel_litres / 1000
        if not HEALTHY_HU[0] <= level.level_hu <= HEALTHY_HU[1] or even < LEAST_EVEN or weight_kg > MOST_KG:
            return None
        levels.append(level)
    return (levels[0], levels[1]) if abs(levels[0].level_hu - levels[1].level_hu) > APART_HU else None


def _inner(lungs: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Voxels (N, 3) whose 26 neighbours are lung."""
    return np.argwhere(ndimage.binary_erosion(lungs, np.ones((3, 3, 3), bool)))


def _fitted(values: NDArray[np.float32], depth: NDArray[np.floating[Any]]) -> HealthyLevel:
    """Level and slope of medians (N,) at distances (N,) in mm from the front of the grid."""
    middle = float(np.median(depth))
    level, slope = _mode(values), 0.0
    for _ in range(4):
        residual = values - (level + slope * (depth - middle))
        near = np.abs(residual) < NEAR_HU
        if near.sum() < 200:
            break
        centred = depth[near] - depth[near].mean()
        slope += float((residual[near] * centred).sum() / max((centred**2).sum(), 1e-6))
        slope = float(np.clip(slope, 0.0, SLOPE_LIMIT))
        level = _mode(values - slope * (depth - middle))
    return HealthyLevel(level, slope, middle)


def align(hu: NDArray[np.float32], level: HealthyLevel, spacing_mm: float) -> NDArray[np.float32]:
    """HU (Z, Y, X) on the common scale, linear between its points; above 0 unchanged.

    The scan's air maps to -1000, healthy lung to -860; soft tissue, 0 HU, is fixed.

    >>> hu = np.array([-1000, -800, 0, 60], np.float32).reshape(1, 1, 4)
    >>> align(hu, HealthyLevel(-800.0, 0.0, 0.0), 1.5).ravel().round()
    array([-1000.,  -860.,     0.,    60.], dtype=float32)
    """
    healthy = level.at(np.arange(hu.shape[1]) * spacing_mm).astype(np.float32)[None, :, None]
    return align_to(hu, healthy, level.air_hu)


def align_to(hu: NDArray[np.float32], healthy: NDArray[np.float32], air_hu: float) -> NDArray[np.float32]:
    """`align` for healthy levels in HU that broadcast to `hu`."""
    below = AIR_HU + (hu - air_hu) * ((REFERENCE_HU - AIR_HU) / (healthy - air_hu))
    above = TISSUE_HU + (hu - TISSUE_HU) * ((REFERENCE_HU - TISSUE_HU) / (healthy - TISSUE_HU))
    return np.where(hu < healthy, below, np.where(hu < TISSUE_HU, above, hu)).astype(np.float32)
