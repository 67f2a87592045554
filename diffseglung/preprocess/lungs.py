"""Lungs in a CT without a trained model: thresholds, connectivity and morphology on a coarse grid, borders on the fine.

Air inside the body -> airways out -> right and left -> dense disease against the chest wall in -> vessels in -> the
border drawn again at full resolution. The steps follow Hu et al., IEEE Trans Med Imaging 2001;20:490.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diffseglung.config import LungMaskConfig
from diffseglung.errors import InputError
from diffseglung.io.plausibility import occupied
from diffseglung.preprocess.airways import find_airways
from diffseglung.preprocess.cage import fill_towards_cage
from diffseglung.preprocess.coarse import (
    Coarse,
    Mask,
    body_hull,
    bounds,
    close,
    components,
    fine_cross,
    shrink,
    slice_hulls,
    within,
)
from diffseglung.preprocess.envelope import lung_envelope
from diffseglung.preprocess.sides import side_field
from diffseglung.runtime import started
from diffseglung.spool import slabs, zeros
from diffseglung.volume import Reorientation, Volume

GAS_HU, GAS_SHARE = -960.0, 0.6
"""A cavity of which more than this share is below GAS_HU is stomach, bowel or outside, not lung."""
LUNG_ML, FRAGMENT_ML = 80.0, 2.0
STALK_MM, WIDE_MM = 5.0, 6.0
"""Radii: of the thickest stalk of an enclosed mass, and of the narrowest bronchus, wall included, left out."""
EXPECTED, CORE, SURE = 0.4, 0.5, 0.6
"""Probability of lung: of dense tissue that may be disease, of the middle of such a patch, and its mean."""
THIN_MM, PATCH_ML = 4.0, 3.0
"""Dense patches thinner than twice THIN_MM or smaller than PATCH_ML are the uncertain rim of the lungs."""
DENSEST_HU = 200.0
"""Above this is bone or contrast medium."""
FAT_HU, FAT_SD_HU = (-150.0, -70.0), 80.0
"""Fat reads within the one and is smoother than the other; lung that is partly filled to that mean is patchy."""
SHREDS_SD_HU = 200.0
"""Rougher dense tissue is hilar vessels and bronchial walls with air between them."""
VESSEL_MM = 6.0
"""Reach of the closing that takes vessels and small bronchi into the lung."""


def find_lungs(ct: Volume, config: LungMaskConfig | None = None) -> Volume:
    """uint8 mask on the grid of `ct` (HU, any orientation): 0 outside, 1 right lung, 2 left lung.

    Trachea and main bronchi stay out; vessels inside the lung and dense disease against the chest wall are in.
    Raises InputError when there are no lungs.
    """
    config = config or LungMaskConfig()
    turn = Reorientation.of(ct)
    whole = turn.apply(ct)
    box = occupied(whole)
    upright = whole.crop((box[0].start, box[1].start, box[2].start), (box[0].stop, box[1].stop, box[2].stop))
    coarse = Coarse.of(upright, config.grid_mm)
    expected = started(lambda: lung_envelope(coarse.over(upright))) if config.envelope else None
    air = coarse.hu < config.threshold_hu
    body = body_hull(coarse)
    airways = find_airways(coarse, body)
    seen = _lung_air(coarse, air & ~airways, body)
    if not seen.any():
        raise InputError(
            "no lungs were found in the scan",
            remedy="check that it is a chest CT in Hounsfield units, or pass a lung mask",
        )
    sides = side_field(seen, coarse)
    wide = _wide(airways, coarse)
    lungs = _fill_vessels(fill_towards_cage(seen, sides, coarse, config.closing_mm), sides, coarse) & ~wide
    if expected is not None:
        lungs |= _dense_disease(expected(), lungs | airways, coarse, config.threshold_hu)
    barred = wide | (air & ~lungs)
    labels = zeros(ct.shape, np.uint8)
    border = _Border.of(lungs, dense=lungs & ~seen, barred=barred, air_hu=config.threshold_hu)
    border.redraw(upright, coarse, sides, onto=turn.view(labels)[box])
    return ct.with_array(labels)


def _lung_air(coarse: Coarse, air: Mask, body: Mask) -> Mask:
    """Air of the lungs: components (parted by a thin erosion) inside the body that are not gas."""
    cross = fine_cross(coarse.spacing_mm)
    parts = np.asarray(ndimage.binary_erosion(air, cross, border_value=1))  # cuts leaks through thin walls
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
    lung = whole[labels]
    return _regrow(lung, parts & ~lung, air, cross)


def _regrow(lung: Mask, others: Mask, air: Mask, cross: Mask) -> Mask:
    """Give the lung's parts back the air next to them that is not next to another part."""
    taken = ndimage.binary_dilation(others, cross, mask=air) if others.any() else others
    for _ in range(2):
        lung = lung | (ndimage.binary_dilation(lung, cross) & air & ~taken)
    return lung


def _dense_disease(expected: NDArray[np.float32], air: Mask, coarse: Coarse, air_hu: float) -> Mask:
    """Patches of dense tissue where the shape of the chest says lung. expected: probability, (Z, Y, X)."""
    dense = (expected > EXPECTED) & ~air & (coarse.hu > air_hu) & (coarse.hu < DENSEST_HU)
    core = shrink(dense, THIN_MM, coarse.spacing_mm) & (expected > CORE)
    thick = within(core, THIN_MM + max(coarse.spacing_mm), coarse.spacing_mm) & dense
    labels, sizes = components(thick)
    patches = np.flatnonzero(sizes * coarse.voxel_ml >= PATCH_ML)
    if not len(patches):
        return np.zeros_like(air)
    mean = ndimage.uniform_filter(coarse.hu, 5)
    spread = np.sqrt(np.maximum(ndimage.uniform_filter(coarse.hu**2, 5) - mean**2, 0))
    sure = ndimage.mean(expected, labels, patches) >= SURE
    hu, rough = (np.asarray(ndimage.median(values, labels, patches)) for values in (mean, spread))
    fat = (hu > FAT_HU[0]) & (hu < FAT_HU[1]) & (rough < FAT_SD_HU)
    return np.isin(labels, patches[sure & ~fat & (rough < SHREDS_SD_HU)])


def _wide(airways: Mask, coarse: Coarse) -> Mask:
    """Airways without the bronchi that are narrow enough to count as lung."""
    return within(shrink(airways, WIDE_MM, coarse.spacing_mm), WIDE_MM, coarse.spacing_mm) & airways


def _fill_vessels(lungs: Mask, sides: NDArray[np.uint8], coarse: Coarse) -> Mask:
    """Each lung closed by a small ball, without holes, and without masses that only a stalk joins to the outside."""
    filled = lungs.copy()
    for side in np.unique(sides[lungs]):
        box = bounds(lungs & (sides == side))
        lung = close(lungs[box] & (sides[box] == side), VESSEL_MM, coarse.spacing_mm)
        filled[box] |= lung | ndimage.binary_fill_holes(lung) | _enclosed(lung, coarse)
    return filled


def _enclosed(lung: Mask, coarse: Coarse) -> Mask:
    """Masses within one lung that only a stalk, such as a vessel, joins to the mediastinum or chest wall."""
    rest = np.pad(~lung, 1, constant_values=True)
    labels, sizes = components(shrink(rest, STALK_MM, coarse.spacing_mm))
    for axis in range(3):
        sizes[np.unique(labels.take([0, -1], axis))] = 0  # open to the outside
    masses = within((sizes > 0)[labels], STALK_MM + max(coarse.spacing_mm), coarse.spacing_mm)
    return masses[1:-1, 1:-1, 1:-1] & ~lung


@dataclass(frozen=True, eq=False)
class _Border:
    """The coarse lungs on the fine grid, their aerated border by the fine voxels themselves.

    core: blocks that are lung throughout;  rim: blocks of which the voxels below `air_hu` are lung.
    """

    core: Mask
    rim: Mask
    air_hu: float

    @classmethod
    def of(cls, lungs: Mask, *, dense: Mask, barred: Mask, air_hu: float) -> _Border:
        """dense: lung that is kept whatever it reads; barred: blocks into which the border must not move."""
        cross = ndimage.generate_binary_structure(3, 1)
        core = ndimage.binary_erosion(lungs, cross, border_value=1) | dense
        return cls(core, ndimage.binary_dilation(lungs, cross) & ~barred, air_hu)

    def redraw(self, upright: Volume, coarse: Coarse, sides: NDArray[np.uint8], *, onto: NDArray[np.uint8]) -> None:
        """Write the side of each lung voxel into `onto`, zeros on the grid of `upright`."""
        inside = np.where(self.core, sides, 0).astype(np.uint8)
        open_to = np.where(self.rim | self.core, sides, 0).astype(np.uint8)
        for planes in slabs(onto, upright.array, copies=4):
            sure, maybe = (coarse.spread(values, upright.shape, planes) for values in (inside, open_to))
            onto[planes] = np.where(upright.array[planes] < self.air_hu, maybe, sure)
