"""Tissue that a finder takes for airless lung: pleural fluid, organs under a raised diaphragm, fat of the belly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diffseglung.lungs.coarse import HU, Coarse, Mask, components, cube, mean_and_variance, shrink, within

EVEN_MM, AROUND_MM, SPREAD_HU = 9.0, 15.0, 5.0
"""Tissue is even where its means over the first vary by less than the third over the second. Airless lung holds bronchi
and vessels."""
FLUID_HU = (-10.0, 25.0)
"""Pleural fluid reads 12.5 (exudates) or 5 HU (transudates) in the median, all from 2 to 33 HU: Cullu et al., Diagn
Interv Radiol 2014;20:116. Airless lung reads more."""
SURFACE_MM, KNOWN_SHARE = 3.0, 0.3
"""The surface of the tissue is mixed with what lies beside it; a mean is of this share of its cube or more."""
LEAST_ML, RIM_MM = 15.0, 12.0
"""Of even fluid; and how far what lies around even tissue belongs to it."""
FAT_HU, FAT_SD_HU, FAT_MM = (-130.0, -75.0), 64.0, 7.0
"""Pure fat (95 % of it reads -123 to -89 HU: PMID 37296765) with what is mixed into it, and its standard deviation over
FAT_MM: 12 to 62 HU in the body fat of LCTSC-102, noise and vessels included."""
OUTER_SHARE, OUTER_ML = 0.58, 1.0
"""Of the surface of fat in a patch: where more of it borders on fat outside, it is a part of that; least volume."""
SMALL_ML, SMALL_FAT, SMALL_OUTER = (1.0, 15.0), 0.05, 0.75
"""A patch of a volume between these two goes whole where more than the second share of it is fat, and more than the
third share of that fat's surface borders on fat outside: what is denser in it is the organ that the fat surrounds."""
UNSEEN_SHARE = 0.1
"""Of the border between a patch and other tissue: where more of it runs through even tissue, it is drawn through an
organ."""


def pleural_fluid(coarse: Coarse, tissue: Mask) -> Mask:
    """What of `tissue`, airless and beside the lungs, is fluid."""
    inner = shrink(tissue, SURFACE_MM, coarse.spacing_mm)
    if not inner.any():
        return inner
    mean, around, spread, share = _evenness(coarse, inner)
    even = inner & (share > KNOWN_SHARE) & (spread < SPREAD_HU)
    labels, sizes = components(even & (around > FLUID_HU[0]) & (around < FLUID_HU[1]))
    core = (sizes * coarse.voxel_ml >= LEAST_ML)[labels]
    return _with_rim(coarse, core, tissue, other=inner & (mean > FLUID_HU[1]))


def organ_parts(coarse: Coarse, dense: Mask, tissue: Mask) -> Mask:
    """What of the patches of `dense` is part of an organ: their border to other `tissue` cannot be seen.

    Pleura and diaphragm part a lung, airless or not, from the tissue next to it, which reads otherwise or is uneven.
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
    """What of the patches of `dense` is fat that goes on in the `tissue` outside, as between diaphragm and bowel."""
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
    """Within the mask: means over EVEN_MM, theirs over AROUND_MM, how these vary, and the mask's share of the cube."""
    mean, _ = _mean(coarse.hu, mask, cube(EVEN_MM, coarse.spacing_mm))
    reach = cube(AROUND_MM, coarse.spacing_mm)
    around, share = _mean(mean, mask, reach)
    square, _ = _mean(mean**2, mask, reach)
    return mean, around, np.sqrt(np.maximum(square - around**2, 0)), share


def _mean(values: HU, mask: Mask, reach: list[int]) -> tuple[HU, HU]:
    """Means over the mask's part of a cube of so many voxels, and what share of the cube that is."""
    share = ndimage.uniform_filter(mask.astype(np.float32), reach)
    total = ndimage.uniform_filter(np.where(mask, values, np.float32(0)), reach)
    return total / np.maximum(share, np.float32(1e-6)), share


def _with_rim(coarse: Coarse, core: Mask, tissue: Mask, other: Mask) -> Mask:
    """Even tissue and what lies around it, but for thick parts of other tissue."""
    near = within(core, RIM_MM, coarse.spacing_mm) & tissue
    return near & ~within(shrink(other, SURFACE_MM, coarse.spacing_mm), 2 * SURFACE_MM, coarse.spacing_mm)


def _counts(labels: NDArray[np.int32], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.bincount(labels, minlength=len(sizes))
