"""Homogeneous tissue mistaken for airless lung: pleural fluid, organs below a raised diaphragm, abdominal fat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diffseglung.lungs.coarse import HU, Coarse, Mask, components, cube, mean_and_variance, shrink, within

EVEN_MM, AROUND_MM, SPREAD_HU = 9.0, 15.0, 5.0
"""Tissue is homogeneous where its means over EVEN_MM vary by less than SPREAD_HU over AROUND_MM. Airless lung contains
bronchi and vessels."""
FLUID_HU = (-10.0, 25.0)
"""Pleural fluid measures 12.5 (exudates) or 5 HU (transudates) in the median, range 2 to 33 HU: Cullu et al., Diagn
Interv Radiol 2014;20:116. Airless lung is denser."""
SURFACE_MM, KNOWN_SHARE = 3.0, 0.3
"""Depth of partial volume at the surface of tissue, and the smallest share of a cube for a valid mean."""
LEAST_ML, RIM_MM = 15.0, 12.0
"""Smallest volume of fluid, and how far the rim of homogeneous tissue extends."""
FAT_HU, FAT_SD_HU, FAT_MM = (-130.0, -75.0), 64.0, 7.0
"""Fat (95 % of pure fat measures -123 to -89 HU: PMID 37296765) with partial volume, and its standard deviation over
FAT_MM: 12 to 62 HU in the body fat of LCTSC-102, including noise and vessels."""
OUTER_SHARE, OUTER_ML = 0.58, 1.0
"""Share of the surface of fat in a patch that borders on fat outside, above which it belongs to that; least volume."""
SMALL_ML, SMALL_FAT, SMALL_OUTER = (1.0, 15.0), 0.05, 0.75
"""A patch of a volume between the two of SMALL_ML is removed as a whole if more than SMALL_FAT of it is fat, and more
than SMALL_OUTER of that fat's surface borders on fat outside: its denser part is the organ within the fat."""
UNSEEN_SHARE = 0.1
"""Share of a patch's border to other tissue that lies in homogeneous tissue, above which it cuts an organ."""


def pleural_fluid(coarse: Coarse, tissue: Mask) -> Mask:
    """The part of `tissue`, airless and next to the lungs, that is fluid."""
    inner = shrink(tissue, SURFACE_MM, coarse.spacing_mm)
    if not inner.any():
        return inner
    mean, around, spread, share = _evenness(coarse, inner)
    even = inner & (share > KNOWN_SHARE) & (spread < SPREAD_HU)
    labels, sizes = components(even & (around > FLUID_HU[0]) & (around < FLUID_HU[1]))
    core = (sizes * coarse.voxel_ml >= LEAST_ML)[labels]
    return _with_rim(coarse, core, tissue, other=inner & (mean > FLUID_HU[1]))


def organ_parts(coarse: Coarse, dense: Mask, tissue: Mask) -> Mask:
    """The part of the patches of `dense` that belongs to an organ: their border to other `tissue` is invisible.

    Pleura and diaphragm separate a lung, airless or not, from neighbouring tissue, which differs in HU or is
    heterogeneous.
    """
    edge = dense & np.asarray(ndimage.binary_dilation(tissue & ~dense))
    if not edge.any():
        return np.zeros_like(dense)
    _, _, spread, _ = _evenness(coarse, np.ones_like(dense))
    labels, sizes = components(dense)
    unseen = edge & (spread < SPREAD_HU)
    shares = _counts(labels[unseen], sizes) / np.maximum(_counts(labels[edge], sizes), 1)
    parts, _ = components((shares > UNSEEN_SHARE)[labels] & (spread < SPREAD_HU))
    cut = np.unique(parts[unseen])
    return _with_rim(coarse, np.isin(parts, cut[cut > 0]), dense, other=np.zeros_like(dense))


def outer_fat(coarse: Coarse, dense: Mask, tissue: Mask) -> Mask:
    """The part of the patches of `dense` that is fat continuous with that outside, as between diaphragm and bowel."""
    mean, variance = mean_and_variance(coarse.hu, cube(FAT_MM, coarse.spacing_mm))
    fat = (mean > FAT_HU[0]) & (mean < FAT_HU[1]) & (variance < FAT_SD_HU**2)
    inside, outside = fat & dense, fat & tissue & ~dense
    labels, sizes = components(inside)
    surface = inside & np.asarray(ndimage.binary_dilation(~inside))
    open_to = inside & np.asarray(ndimage.binary_dilation(outside))
    shares = _counts(labels[open_to], sizes) / np.maximum(_counts(labels[surface], sizes), 1)
    parts = (shares > OUTER_SHARE) & (sizes * coarse.voxel_ml >= OUTER_ML)
    patches, whole = components(dense)
    small = (whole * coarse.voxel_ml > SMALL_ML[0]) & (whole * coarse.voxel_ml < SMALL_ML[1])
    small &= _counts(patches[inside], whole) > SMALL_FAT * whole
    small &= _counts(patches[open_to], whole) > SMALL_OUTER * _counts(patches[surface], whole)
    return (within(parts[labels] & inside, FAT_MM / 2, coarse.spacing_mm) | small[patches]) & dense


def _evenness(coarse: Coarse, mask: Mask) -> tuple[HU, HU, HU, HU]:
    """Within the mask: means over EVEN_MM, their mean and spread over AROUND_MM, and the mask's share of that cube."""
    mean, _ = _mean(coarse.hu, mask, cube(EVEN_MM, coarse.spacing_mm))
    reach = cube(AROUND_MM, coarse.spacing_mm)
    around, share = _mean(mean, mask, reach)
    square, _ = _mean(mean**2, mask, reach)
    return mean, around, np.sqrt(np.maximum(square - around**2, 0)), share


def _mean(values: HU, mask: Mask, reach: list[int]) -> tuple[HU, HU]:
    """Means over the mask within a cube of `reach` voxels, and the mask's share of the cube."""
    share = ndimage.uniform_filter(mask.astype(np.float32), reach)
    total = ndimage.uniform_filter(np.where(mask, values, np.float32(0)), reach)
    return total / np.maximum(share, np.float32(1e-6)), share


def _with_rim(coarse: Coarse, core: Mask, tissue: Mask, other: Mask) -> Mask:
    """Homogeneous tissue with its rim, without thick parts of other tissue."""
    near = within(core, RIM_MM, coarse.spacing_mm) & tissue
    return near & ~within(shrink(other, SURFACE_MM, coarse.spacing_mm), 2 * SURFACE_MM, coarse.spacing_mm)


def _counts(labels: NDArray[np.int32], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.bincount(labels, minlength=len(sizes))
