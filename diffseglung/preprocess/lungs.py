"""Lungs in a CT without a trained model: thresholds, connectivity and morphology on a coarse grid, borders on the fine.

Air inside the body -> airways out -> right and left -> dense disease against the chest wall in -> vessels in -> the
border drawn again at full resolution. The steps follow Hu et al., IEEE Trans Med Imaging 2001;20:490.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diffseglung.config import LungMaskConfig
from diffseglung.errors import InputError
from diffseglung.preprocess.airways import find_airways
from diffseglung.preprocess.cage import fill_towards_cage
from diffseglung.preprocess.coarse import Coarse, Mask, close, components, shrink, slice_hulls, within
from diffseglung.preprocess.sides import side_field
from diffseglung.volume import Reorientation, Volume

TISSUE_HU = -300.0
GAS_HU, GAS_SHARE = -960.0, 0.6
"""A cavity of which more than this share is below GAS_HU is stomach, bowel or outside, not lung."""
WALL_MM = 4.5
"""Shells thinner than twice this (table, clothing) are not the body."""
LUNG_ML, FRAGMENT_ML = 80.0, 2.0
VESSEL_MM = 5.0
"""Reach of the closing that takes vessels and small bronchi into the lung."""


def find_lungs(ct: Volume, config: LungMaskConfig | None = None) -> Volume:
    """uint8 mask on the grid of `ct` (HU, any orientation): 0 outside, 1 right lung, 2 left lung.

    Trachea and main bronchi stay out; vessels inside the lung and dense disease against the chest wall are in.
    Raises InputError when there are no lungs.
    """
    config = config or LungMaskConfig()
    turn = Reorientation.of(ct)
    upright = turn.apply(ct)
    coarse = Coarse.of(upright, config.grid_mm)
    air = coarse.hu < config.threshold_hu
    body = _body_hull(coarse)
    airways = find_airways(coarse, body)
    seen = _lung_air(coarse, air & ~airways, body)
    if not seen.any():
        raise InputError(
            "no lungs were found in the scan",
            remedy="check that it is a chest CT in Hounsfield units, or pass a lung mask",
        )
    sides = side_field(seen, coarse)
    lungs = fill_towards_cage(seen, sides, coarse, config.closing_mm)
    lungs = _fill_vessels(lungs, sides, coarse) & ~(airways & ~_fill_holes(lungs, sides))
    fine = _redraw_border(upright, coarse, lungs, seen, airways)
    labels = np.where(fine, coarse.spread(sides, upright.shape), 0).astype(np.uint8)
    return ct.with_array(turn.undo(labels))


def _body_hull(coarse: Coarse) -> Mask:
    """Convex hull, slice by slice, of the largest body of tissue; the table and its foam are outside."""
    tissue = coarse.hu > TISSUE_HU
    labels, sizes = components(shrink(tissue, WALL_MM, coarse.spacing_mm))
    if not sizes.any():
        return np.ones_like(tissue)
    body = within(labels == sizes.argmax(), WALL_MM, coarse.spacing_mm) & tissue
    return slice_hulls(body)


def _lung_air(coarse: Coarse, air: Mask, body: Mask) -> Mask:
    """Air of the lungs: components (parted by a thin erosion) inside the body that are not gas."""
    parts = _parts(coarse, air)
    labels, sizes = components(parts)
    inside = np.bincount(labels.ravel(), weights=body.ravel(), minlength=len(sizes))
    mostly_inside = inside >= 0.5 * np.maximum(sizes, 1)
    kept = parts & (mostly_inside[labels] | body) & (labels > 0)
    labels, sizes = components(kept)
    gas = np.bincount(labels.ravel(), weights=(coarse.hu < GAS_HU).ravel(), minlength=len(sizes))
    share = gas / np.maximum(sizes, 1)
    volumes = sizes * coarse.voxel_ml
    whole = (volumes >= LUNG_ML) & (share < GAS_SHARE) & (volumes > 0.03 * volumes.max(initial=0.0))
    if not whole.any():
        return np.zeros_like(air)
    chest = slice_hulls(whole[labels])
    enclosed = np.bincount(labels.ravel(), weights=chest.ravel(), minlength=len(sizes)) > 0.9 * np.maximum(sizes, 1)
    whole |= (volumes >= FRAGMENT_ML) & (share < 0.08) & enclosed
    whole[0] = False
    return _regrow(whole[labels], labels > 0, air, coarse)


def _parts(coarse: Coarse, air: Mask) -> Mask:
    """Air eroded by one voxel in the fine directions, which cuts leaks through thin walls."""
    cross = ndimage.generate_binary_structure(3, 1)
    for axis, spacing in enumerate(coarse.spacing_mm):
        if spacing > 3.0:
            for end in (0, 2):
                index = [1, 1, 1]
                index[axis] = end
                cross[tuple(index)] = False
    return np.asarray(ndimage.binary_erosion(air, cross, border_value=1))


def _regrow(lung: Mask, parts: Mask, air: Mask, coarse: Coarse) -> Mask:
    """Air within reach of the lung's parts and nearer to them than to any other part."""
    reach = 1.8 * max(s for s in coarse.spacing_mm if s <= 3.0 or s == min(coarse.spacing_mm))
    to_lung = ndimage.distance_transform_edt(~lung, sampling=coarse.spacing_mm)
    near = air & (to_lung <= reach)
    others = parts & ~lung
    if others.any():
        near &= to_lung <= ndimage.distance_transform_edt(~others, sampling=coarse.spacing_mm)
    return near | lung


def _fill_vessels(lungs: Mask, sides: NDArray[np.uint8], coarse: Coarse) -> Mask:
    """Each lung closed by a small ball and without holes."""
    filled = lungs.copy()
    for side in np.unique(sides[lungs]):
        filled |= ndimage.binary_fill_holes(close(lungs & (sides == side), VESSEL_MM, coarse.spacing_mm))
    return filled


def _fill_holes(lungs: Mask, sides: NDArray[np.uint8]) -> Mask:
    """Each lung without holes."""
    filled = lungs.copy()
    for side in np.unique(sides[lungs]):
        filled |= ndimage.binary_fill_holes(lungs & (sides == side))
    return filled


def _redraw_border(upright: Volume, coarse: Coarse, lungs: Mask, seen: Mask, airways: Mask) -> Mask:
    """The coarse lungs on the fine grid, their aerated border by the fine voxels themselves."""
    ball = ndimage.generate_binary_structure(3, 1)
    core = ndimage.binary_erosion(lungs, ball, border_value=1) | (lungs & ~seen)
    rim = ndimage.binary_dilation(lungs, ball) & ~airways
    fine = coarse.spread(core, upright.shape).astype(bool)
    aerated = upright.array < LungMaskConfig().threshold_hu
    return fine | (coarse.spread(rim, upright.shape).astype(bool) & aerated)
