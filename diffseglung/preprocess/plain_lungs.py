"""Lungs by air alone: a second opinion on any lung mask that owes nothing to a network.

Thresholds, connectivity and the body's outline, after Hu et al., IEEE Trans Med Imaging 2001;20:490. It sees no airless
lung, and tells lung from bowel only by place and evenness.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diffseglung.preprocess.coarse import Coarse, Mask, bounds, components, fine_cross

AIR_HU = -320.0
LEAST_ML = 15.0
GAS_HU, GAS_SD_HU = -940.0, 60.0
"""Gas of bowel and stomach is darker than the one and more even than the other; lung holds vessels."""
LUNGS = 2
BELOW_SHARE = 0.8
"""Bowel lies under the diaphragm: more than this share of it has no lung beneath."""
ROUNDS = 2
"""Of growing back after the erosion: its own voxel, and the partial volume at the pleura."""


def plain_air(coarse: Coarse, body: Mask, airways: Mask) -> Mask:
    """Aerated lung (Z, Y, X), canonical axes.  body, airways: as `body_mask` and `find_airways` give them."""
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
    """Which of the `large` components are even gas below the lungs: little of it has lung beneath."""
    if not len(large):
        return np.zeros(0, bool)
    inside = labels > 0
    which, values = labels[inside], hu[inside].astype(np.float64)
    sums, squares = (np.bincount(which, weights=v, minlength=len(sizes))[large] for v in (values, values**2))
    mean = sums / sizes[large]
    gas = (mean < GAS_HU) & (squares / sizes[large] - mean**2 < GAS_SD_HU**2)
    candidates = large if gas.all() else large[~gas]
    lungs = candidates[np.argsort(-sizes[candidates], kind="stable")[:LUNGS]]
    over = np.logical_or.accumulate(np.isin(np.arange(len(sizes)), lungs)[labels], axis=0)
    below = np.bincount(which, weights=~over[inside], minlength=len(sizes))[large] > BELOW_SHARE * sizes[large]
    return gas & below & ~np.isin(large, lungs)
