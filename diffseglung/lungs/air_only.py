"""Lungs by air alone, without a network: an independent check of any lung mask.

Thresholds, connectivity and the body's outline, after Hu et al., IEEE Trans Med Imaging 2001;20:490. It does not find
airless lung, and separates lung from bowel only by position and homogeneity.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diffseglung.lungs.coarse import Coarse, Mask, bounds, components, fine_cross

AIR_HU = -320.0
LEAST_ML = 15.0
GAS_HU, GAS_SD_HU = -940.0, 60.0
"""Gas of bowel and stomach has a lower mean and standard deviation than these; lung contains vessels."""
LUNGS = 2
BELOW_SHARE, HIGH_SHARE = 0.8, 0.2
"""Bowel lies below the diaphragm: more than the first share of it has no lung beneath, and less than the second lies in
the upper half of the lungs, which a destroyed lung reaches."""
ROUNDS = 2
"""Dilations after the erosion: the eroded voxel, and partial volume at the pleura."""


def plain_air(coarse: Coarse, body: Mask, airways: Mask) -> Mask:
    """Aerated lung (Z, Y, X), canonical axes.  body, airways: from `body_mask` and `find_airways`."""
    lung = np.zeros_like(body)
    if not body.any():
        return lung
    box = bounds(body)
    hu, air = coarse.hu[box], (coarse.hu[box] < AIR_HU) & body[box] & ~airways[box]
    cross = fine_cross(coarse.spacing_mm)
    labels, sizes = components(np.asarray(ndimage.binary_erosion(air, cross, border_value=1)))
    large = np.flatnonzero(sizes * coarse.voxel_ml >= LEAST_ML)
    whole = np.zeros(len(sizes), bool)
    whole[large[~_is_bowel(hu, labels, sizes, large)]] = True
    parts, others = whole[labels], (labels > 0) & ~whole[labels]
    free = air & ~np.asarray(ndimage.binary_dilation(others, cross))
    lung[box] = parts | np.asarray(ndimage.binary_dilation(parts, cross, ROUNDS, mask=free | parts))
    return lung


def _is_bowel(
    hu: NDArray[np.float32], labels: NDArray[np.int32], sizes: NDArray[np.int64], large: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether each of the `large` components is homogeneous gas below the lungs."""
    if not len(large):
        return np.zeros(0, bool)
    inside = labels > 0
    which, values = labels[inside], hu[inside].astype(np.float64)
    sums, squares = (np.bincount(which, weights=v, minlength=len(sizes))[large] for v in (values, values**2))
    mean = sums / sizes[large]
    gas = (mean < GAS_HU) & (squares / sizes[large] - mean**2 < GAS_SD_HU**2)
    candidates = large if gas.all() else large[~gas]
    lungs = candidates[np.argsort(-sizes[candidates], kind="stable")[:LUNGS]]
    lung = np.isin(np.arange(len(sizes)), lungs)[labels]
    over, heights = np.logical_or.accumulate(lung, axis=0), np.flatnonzero(lung.any((1, 2)))
    below = np.bincount(which, weights=~over[inside], minlength=len(sizes))[large] > BELOW_SHARE * sizes[large]
    upper = np.bincount(labels[(heights[0] + heights[-1]) // 2 :].ravel(), minlength=len(sizes))[large]
    return gas & below & (upper < HIGH_SHARE * sizes[large]) & ~np.isin(large, lungs)
