"""Fluid in the pleural space, which a finder of lungs that have filled up takes for such a lung."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from diffseglung.preprocess.coarse import HU, Coarse, Mask, components, cube, shrink, within

FLUID_HU, SPREAD_HU = (-10.0, 25.0), 5.0
"""Pleural fluid reads within the first (medians of exudates 12.5, of transudates 5, all from 2 to 33 HU: Cullu et al.,
Diagn Interv Radiol 2014;20:116) and is even: its means over EVEN_MM vary by less than the second over AROUND_MM.
Airless lung reads more, and holds bronchi and vessels."""
EVEN_MM, AROUND_MM = 9.0, 15.0
SURFACE_MM, KNOWN_SHARE = 3.0, 0.3
"""The surface of the tissue is mixed with what lies beside it; a mean is of this share of its cube or more."""
LEAST_ML, RIM_MM = 15.0, 12.0
"""Of even fluid; and how far what lies around it is fluid as well, unless it reads more."""


def pleural_fluid(coarse: Coarse, tissue: Mask) -> Mask:
    """What of `tissue`, airless and beside the lungs, is fluid."""
    mm, inner = coarse.spacing_mm, shrink(tissue, SURFACE_MM, coarse.spacing_mm)
    if not inner.any():
        return inner
    mean, _ = _mean(coarse.hu, inner, cube(EVEN_MM, mm))
    around, share = _mean(mean, inner, cube(AROUND_MM, mm))
    square, _ = _mean(mean**2, inner, cube(AROUND_MM, mm))
    even = inner & (share > KNOWN_SHARE) & (square - around**2 < SPREAD_HU**2)
    labels, sizes = components(even & (around > FLUID_HU[0]) & (around < FLUID_HU[1]))
    near = within((sizes * coarse.voxel_ml >= LEAST_ML)[labels], RIM_MM, mm) & tissue
    other = inner & (mean > FLUID_HU[1])
    return near & ~within(shrink(other, SURFACE_MM, mm), 2 * SURFACE_MM, mm)


def _mean(values: HU, mask: Mask, reach: list[int]) -> tuple[HU, HU]:
    """Means over the mask's part of a cube of so many voxels, and what share of the cube that is."""
    share = ndimage.uniform_filter(mask.astype(np.float32), reach)
    total = ndimage.uniform_filter(np.where(mask, values, np.float32(0)), reach)
    return total / np.maximum(share, np.float32(1e-6)), share
