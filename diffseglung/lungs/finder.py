"""Lungs in a CT: learned anatomy decides what is lung, thresholds define its border.

A network (`anatomy`) locates lung, airways, body and room at 6 mm; whole pockets of air take the class of most of their
voxels, so that thin recesses and the walls of bullae are right; dense tissue is included where anatomy says lung and it
can be disease; the border is redrawn at full resolution. Closing of vessels and the order of the steps follow Hu et
al., IEEE Trans Med Imaging 2001;20:490.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diffseglung.io.plausibility import PADDING_HU, occupied
from diffseglung.lungs.air_only import plain_air
from diffseglung.lungs.airways import find_airways
from diffseglung.lungs.anatomy import AIRWAY, LEFT, RIGHT, ROOM, Anatomy
from diffseglung.lungs.coarse import (
    Coarse,
    Mask,
    body_mask,
    bounds,
    close,
    components,
    cube,
    fine_cross,
    mean_and_variance,
    padded,
    shrink,
    within,
)
from diffseglung.lungs.homogeneous import organ_parts, outer_fat, pleural_fluid
from diffseglung.lungs.sides import cut_through, side_field
from diffseglung.platform.config import LungMaskConfig
from diffseglung.platform.errors import InputError
from diffseglung.platform.out_of_core import slabs, zeros
from diffseglung.platform.runtime import started
from diffseglung.volume import Reorientation, Volume

Probabilities = NDArray[np.float32]

LUNG, SPECK_ML = 0.5, 1.0
"""Probability of lung of a single voxel; smallest volume of an island of air that is lung."""
AGREED, REFUTED = 0.75, 0.65
"""Mean probability of lung above which a pocket of air is lung except for voxels that are certainly not (`NEVER`), and
below which it is not lung, usually bowel, except for voxels that certainly are (`SURELY`)."""
NEVER, SURELY = 0.05, 0.8
BESIDE_MM = 6.0
"""A pocket between the two is lung if most of it lies this near to lung."""
STALK_MM, WIDE_MM = 5.0, 6.0
"""Radii: of the thickest stalk of an enclosed mass, and of the narrowest excluded bronchus with its wall."""
EXPECTED, MEAN = 0.5, 0.65
"""Smallest probability of lung of a voxel of dense disease, and the smallest mean of a patch of it."""
LARGE_ML, ONWARD, ONWARD_MM = 12.0, 0.3, 6.0
"""A patch of this volume extends into voxels of this probability of lung, up to this distance."""
THIN_MM, PATCHY_MM, PATCH_ML = 3.0, 4.0, 2.0
"""Dense patches thinner than twice THIN_MM, after closing of holes by PATCHY_MM, or smaller than PATCH_ML are partial
volume at the rim of the lungs."""
HILUM_MM, TRUNK_MM = 35.0, 8.0
"""Within HILUM_MM of the central airways, dense tissue thinner than twice TRUNK_MM is vessels and bronchi of the hilum
(the healthy right descending pulmonary artery is at most 16.7 mm wide: Bush et al., Thorax 1988;43:127)."""
ADULT_ML = 3000.0
"""Aerated lungs of an adult in expiration. In smaller lungs the hilum is proportionally smaller."""
ALONE = 0.85
"""Smallest mean probability of a dense patch away from aerated lung."""
DENSEST_HU = 200.0
"""Denser is bone or contrast medium."""
FAT_HU, FAT_SD_HU, FAT_MM = (-150.0, -40.0), (18.0, 45.0), 7.0
"""Fat: the mean over FAT_MM lies in FAT_HU and the standard deviation is below FAT_SD_HU (the lower value where lung is
certain, `SURELY`); partly filled lung of that mean is heterogeneous."""
MOST_EVEN = 0.5
"""A side with a larger share of homogeneous tissue is kept whole: a white lung."""
REMAINS_MM = 20.0
"""Within this distance of it, remnants that are thin or no longer next to lung are removed too."""
PURE_FAT_HU, FAT_RIM_MM = -100.0, 10.0
"""Pure fat (95 % of it measures -123 to -89 HU: PMID 37296765), and the depth of fat at the rim of a denser patch."""
LEAST_AERATED = 0.02
"""Smallest ratio of air to dense tissue in lungs, however diseased: abdominal organs have no air."""
VESSEL_MM = 6.0
"""Radius of the closing that includes vessels and small bronchi."""
EROSIONS_MM, ONE_SIDE, BOTH = (0.0, 2.0, 4.0, 6.0, 8.0, 11.0, 14.0), 0.85, 0.2
"""Radii of the erosion that separates the lungs; mean probability of a part's side; share of each side in lungs that
remain one part."""
ALL_BUT, HALF = 0.1, 0.25
"""Share of the air in the smaller lung: below ALL_BUT a lung is missing, above HALF there are two."""
NEAR = 4
"""Voxels around the lungs that also have a side."""
APART_MM, APART_SHARE = 20.0, 0.2
"""An island farther from its lung than APART_MM, and smaller than APART_SHARE of it, is not lung."""


def find_lungs(ct: Volume, config: LungMaskConfig | None = None, anatomy: Anatomy | None = None) -> Volume:
    """uint8 mask on the grid of `ct` (HU, any orientation): 0 outside, 1 right lung, 2 left lung.

    Excludes trachea and main bronchi; includes vessels inside the lung and dense disease. anatomy: of this scan, if
    already known (`anatomy_of`). Raises InputError if there are no lungs.
    """
    config = config or LungMaskConfig()
    turn = Reorientation.of(ct)
    upright, box = _occupied_part(turn.apply(ct))
    coarse = Coarse.of(upright, config.grid_mm)
    grid = coarse.over(upright)
    learned = started(lambda: (anatomy or Anatomy.of(grid)).onto(grid)) if config.learned else None
    air, body = (coarse.hu < config.threshold_hu) & coarse.scanned, body_mask(coarse)
    airways = find_airways(coarse, body)
    chest = None if learned is None else learned()
    if chest is None:
        seen = plain_air(coarse, body, airways)
        sides, dense = side_field(seen, coarse) if seen.any() else np.zeros(seen.shape, np.uint8), np.zeros_like(seen)
    else:
        airways = (airways & (chest[RIGHT] + chest[LEFT] < SURELY)) | ((chest[AIRWAY] > LUNG) & air)
        seen = _aerated(coarse, air & ~airways, chest)
        tissue = (coarse.hu >= config.threshold_hu) & ~airways
        dense = _dense_disease(coarse, tissue, seen, chest[RIGHT] + chest[LEFT], airways)
        found = seen | dense
        half = cut_through(body) and found.any()
        sides = side_field(found, coarse) if half else _checked_sides(found, seen, chest, coarse)
        together = _together(found, sides, coarse)
        seen, dense = seen & together, dense & together
        dense = _possible_disease(coarse, seen, dense, sides)
    if seen.sum() <= LEAST_AERATED * dense.sum():
        raise InputError(
            "no lungs were found in the scan",
            remedy="check that it is a chest CT in Hounsfield units, or pass a lung mask",
        )
    wide = _wide(airways, coarse)
    lungs = _fill_vessels(seen | dense, sides, coarse) & ~wide
    labels = zeros(ct.shape, np.uint8)
    border = _Border.of(lungs, dense=lungs & ~seen, barred=wide | (air & ~lungs), air_hu=config.threshold_hu)
    border.redraw(upright, coarse, sides, onto=turn.view(labels)[box])
    return ct.with_array(labels)


def anatomy_of(ct: Volume) -> Anatomy:
    """Learned anatomy of a scan of any orientation, as used by `find_lungs`."""
    upright, _ = _occupied_part(Reorientation.of(ct).apply(ct))
    return Anatomy.of(Coarse.of(upright, LungMaskConfig().grid_mm).over(upright))


def _occupied_part(whole: Volume) -> tuple[Volume, tuple[slice, slice, slice]]:
    """The part of a scan with canonical axes that is not padding, and its slices."""
    z, y, x = occupied(whole)
    return whole.crop((z.start, y.start, x.start), (z.stop, y.stop, x.stop)), (z, y, x)


def _aerated(coarse: Coarse, air: Mask, chest: Probabilities) -> Mask:
    """Air of the lungs.  air: without airways;  chest: class probabilities, (5, Z, Y, X)."""
    lung = chest[RIGHT] + chest[LEFT]
    cross = fine_cross(coarse.spacing_mm)
    parts = np.asarray(ndimage.binary_erosion(air, cross, border_value=1))  # cuts leaks through thin walls
    labels, sizes = components(parts)
    mean = np.bincount(labels.ravel(), weights=lung.ravel(), minlength=len(sizes)) / np.maximum(sizes, 1)
    least = np.full(len(sizes), LUNG, np.float32)
    least[mean > AGREED], least[mean < REFUTED] = NEVER, SURELY
    found = parts & (lung > least[labels]) & (chest[ROOM] < LUNG)
    near = within(found, BESIDE_MM, coarse.spacing_mm)
    beside = np.bincount(labels.ravel(), weights=near.ravel(), minlength=len(sizes)) / np.maximum(sizes, 1)
    whole = (beside > 0.5) & (mean > REFUTED)
    whole[0] = False
    found |= whole[labels] & (lung > NEVER)
    islands, volumes = components(found)
    found = (volumes * coarse.voxel_ml >= SPECK_ML)[islands]
    return _regrow(found, parts & ~found, air & (chest[ROOM] < LUNG), cross)


def _regrow(lung: Mask, others: Mask, air: Mask, cross: Mask) -> Mask:
    """Add the air next to the lung's parts that is not next to another part."""
    taken = ndimage.binary_dilation(others, cross, mask=air) if others.any() else others
    for _ in range(2):
        lung = lung | (ndimage.binary_dilation(lung, cross) & air & ~taken)
    return lung


def _dense_disease(coarse: Coarse, tissue: Mask, seen: Mask, lung: Probabilities, airways: Mask) -> Mask:
    """Patches of dense tissue that are lung by anatomy and can be disease: no fat, bone or thin rim.

    Hysteresis (Canny, IEEE Trans Pattern Anal 1986;8:679): a patch starts where lung is probable and the tissue thick,
    and extends into less probable tissue next to it.
    """
    possible = tissue & (coarse.hu < DENSEST_HU) & ~_fat(coarse, np.where(lung > SURELY, *FAT_SD_HU))
    dense = possible & (lung > EXPECTED)
    if not dense.any():
        return dense
    closed = close(dense, PATCHY_MM, coarse.spacing_mm)
    size = min(1.0, float(seen.sum()) * coarse.voxel_ml / ADULT_ML) ** (1 / 3)
    thick = within(shrink(closed, size * TRUNK_MM, coarse.spacing_mm), size * TRUNK_MM, coarse.spacing_mm)
    hilum = within(airways, size * HILUM_MM, coarse.spacing_mm) & ~thick
    core = shrink(closed, THIN_MM, coarse.spacing_mm) & dense & ~hilum
    thick = within(core, THIN_MM + max(coarse.spacing_mm[1:]), coarse.spacing_mm) & dense
    labels, sizes = components(thick)
    patches = np.flatnonzero(sizes * coarse.voxel_ml >= PATCH_ML)
    if not len(patches):
        return np.zeros_like(seen)
    sure = np.asarray(ndimage.mean(lung, labels, patches))
    beside = np.isin(patches, np.unique(labels[within(seen, BESIDE_MM, coarse.spacing_mm)]))
    patches = patches[(sure >= MEAN) & (beside | (sure >= ALONE))]
    large = np.isin(labels, patches[sizes[patches] * coarse.voxel_ml >= LARGE_ML])
    onward = within(large, ONWARD_MM, coarse.spacing_mm) & possible & (lung > ONWARD)
    return np.isin(labels, patches) | onward


def _possible_disease(coarse: Coarse, seen: Mask, dense: Mask, sides: NDArray[np.uint8]) -> Mask:
    """Dense tissue without fluid, parts of organs, their remnants, and fat at its rim; white lungs are kept."""
    if not dense.any():
        return dense
    mm, out = coarse.spacing_mm, np.zeros_like(dense)
    box = padded(bounds(dense), [int(REMAINS_MM / step) + 2 for step in mm], dense.shape)
    near, seen_near, left, side = replace(coarse, hu=coarse.hu[box]), seen[box], dense[box], sides[box]
    tissue = ~(seen_near | left) & (near.hu > FAT_HU[0])
    even = pleural_fluid(near, left) | organ_parts(near, left, tissue) | outer_fat(near, left, tissue)
    for lung in np.unique(side[even]):
        if (even & (side == lung)).sum() > MOST_EVEN * ((seen | dense) & (sides == lung)).sum():
            even &= side != lung
    left = left & ~even
    labels, _ = components(within(shrink(left, THIN_MM, mm), 2 * THIN_MM, mm) & left)
    beside = np.unique(labels[within(seen_near, BESIDE_MM, mm)])
    left &= np.isin(labels, beside[beside > 0]) | ~within(even, REMAINS_MM, mm)
    out[box] = left & ~_fat_around(near, seen_near | left, left)
    return out


def _fat(coarse: Coarse, most_sd: Probabilities) -> Mask:
    """Tissue with the mean HU of fat and a standard deviation below `most_sd` HU."""
    mean, variance = mean_and_variance(coarse.hu, cube(FAT_MM, coarse.spacing_mm))
    return np.asarray((mean > FAT_HU[0]) & (mean < FAT_HU[1]) & (np.sqrt(variance) < most_sd))


def _fat_around(coarse: Coarse, lungs: Mask, dense: Mask) -> Mask:
    """Fat of chest wall and mediastinum at the rim of denser patches, from outside the lungs inwards."""
    labels, sizes = components(dense)
    border = np.full(len(sizes), -np.inf)
    if len(sizes) > 1:
        level = np.asarray(ndimage.median(coarse.hu, labels, np.arange(1, len(sizes))))
        border[1:] = np.where(level > FAT_HU[1], (level + PURE_FAT_HU) / 2, -np.inf)
    fat = dense & (coarse.hu > FAT_HU[0]) & (coarse.hu < border[labels])
    outside = ~lungs & (coarse.hu > FAT_HU[0])
    steps = int(FAT_RIM_MM / max(coarse.spacing_mm[1:]))
    return np.asarray(ndimage.binary_dilation(outside, iterations=steps, mask=outside | fat) & fat)


def _sides(lungs: Mask, chest: Probabilities, coarse: Coarse) -> NDArray[np.uint8]:
    """1 right or 2 left for every voxel of the grid.

    A part of the lungs that anatomy assigns to one side belongs to it as a whole. Where the lungs touch, erosion
    separates them, so that the cut runs through their contact. What it cannot separate is one lung, of the side of most
    of its voxels, unless much of it is certainly right and much certainly left.
    """
    left = chest[LEFT] / np.maximum(chest[LEFT] + chest[RIGHT], 1e-6)
    sides, open_parts = np.zeros(lungs.shape, np.uint8), lungs
    for reach in EROSIONS_MM:
        eroded = open_parts & shrink(lungs, reach, coarse.spacing_mm)
        labels, sizes = components(eroded)
        mean = np.bincount(labels.ravel(), weights=left.ravel(), minlength=len(sizes)) / np.maximum(sizes, 1)
        table = np.where(mean > ONE_SIDE, 2, np.where(mean < 1 - ONE_SIDE, 1, 0)).astype(np.uint8)
        table[0] = 0
        of_part = table[labels]
        sides = np.where(of_part > 0, of_part, sides)
        left_open = eroded & (of_part == 0)
        if not left_open.any():
            break
        open_parts = left_open
    else:
        labels, sizes = components(open_parts)
        sure = [np.bincount(labels[p > SURELY], minlength=len(sizes)) for p in (chest[RIGHT], chest[LEFT])]
        both = np.minimum(*sure) > BOTH * sizes
        majority = np.bincount(labels.ravel(), weights=left.ravel(), minlength=len(sizes)) > sizes / 2
        of_left = np.where(both[labels], left > 0.5, majority[labels])
        sides[open_parts] = np.where(of_left, 2, 1)[open_parts]
    if not sides.any():
        return np.ones(lungs.shape, np.uint8)
    sides = _nearest(sides, lungs, coarse)
    strays = [_strays(lungs & (sides == side), lungs & (sides == 3 - side), coarse) for side in (1, 2)]
    if not (strays[0] | strays[1]).any():
        return sides
    sides = np.where(lungs, sides, 0).astype(np.uint8)
    sides[strays[0]], sides[strays[1]] = 2, 1
    return _nearest(sides, lungs, coarse)


def _nearest(sides: NDArray[np.uint8], lungs: Mask, coarse: Coarse) -> NDArray[np.uint8]:
    """The side of the nearest voxel that has one, around the lungs."""
    box = padded(bounds(lungs), (NEAR,) * 3, lungs.shape)
    known, filled = sides[box], sides.copy()
    nearest = ndimage.distance_transform_edt(
        known == 0, sampling=coarse.spacing_mm, return_distances=False, return_indices=True
    )
    filled[box] = known[tuple(nearest)]
    return filled


def _checked_sides(lungs: Mask, seen: Mask, chest: Probabilities, coarse: Coarse) -> NDArray[np.uint8]:
    """`_sides`; but if it assigns almost all air to one side and erosion finds two lungs side by side, `side_field`."""
    learned = _sides(lungs, chest, coarse)
    if not seen.any() or _smaller(learned, seen) > ALL_BUT:
        return learned
    plain = side_field(seen, coarse)
    return plain if _smaller(plain, seen) > HALF else learned


def _smaller(sides: NDArray[np.uint8], seen: Mask) -> float:
    """Share of the air on the smaller side."""
    right = float((sides[seen] == 1).mean())
    return min(right, 1 - right)


def _strays(lung: Mask, other: Mask, coarse: Coarse) -> Mask:
    """Islands of one lung that lie next to the other."""
    islands = _islands(lung, coarse, BESIDE_MM)
    if not islands.any():
        return islands
    labels, _ = components(islands)
    beside = np.unique(labels[within(other, BESIDE_MM, coarse.spacing_mm)])
    return np.isin(labels, beside[beside > 0])


def _together(lungs: Mask, sides: NDArray[np.uint8], coarse: Coarse) -> Mask:
    """Lungs without islands that are far from the rest of their lung and small: usually bowel."""
    kept = lungs.copy()
    for side in np.unique(sides[lungs]):
        kept &= ~_islands(lungs & (sides == side), coarse, APART_MM)
    return kept


def _islands(lung: Mask, coarse: Coarse, apart_mm: float) -> Mask:
    """Parts of a lung farther than `apart_mm` from its largest one, and small in comparison."""
    labels, sizes = components(lung)
    if len(sizes) < 3:
        return np.zeros_like(lung)
    near = np.unique(labels[within(labels == sizes.argmax(), apart_mm, coarse.spacing_mm)])
    small = sizes <= APART_SHARE * sizes.max()
    small[near] = False
    return np.asarray(small[labels] & lung)


def _wide(airways: Mask, coarse: Coarse) -> Mask:
    """Airways without the bronchi narrow enough to count as lung."""
    return within(shrink(airways, WIDE_MM, coarse.spacing_mm), WIDE_MM, coarse.spacing_mm) & airways


def _fill_vessels(lungs: Mask, sides: NDArray[np.uint8], coarse: Coarse) -> Mask:
    """Each lung closed by a small ball, with its holes filled, and masses joined to the outside by a stalk only."""
    filled = lungs.copy()
    for side in np.unique(sides[lungs]):
        box = bounds(lungs & (sides == side))
        lung = close(lungs[box] & (sides[box] == side), VESSEL_MM, coarse.spacing_mm)
        filled[box] |= lung | ndimage.binary_fill_holes(lung) | _enclosed(lung, coarse)
    return filled


def _enclosed(lung: Mask, coarse: Coarse) -> Mask:
    """Masses within one lung joined to the mediastinum or chest wall by a stalk only, such as a vessel."""
    rest = np.pad(~lung, 1, constant_values=True)
    labels, sizes = components(shrink(rest, STALK_MM, coarse.spacing_mm))
    for axis in range(3):
        sizes[np.unique(labels.take([0, -1], axis))] = 0  # open to the outside
    masses = within((sizes > 0)[labels], STALK_MM + max(coarse.spacing_mm), coarse.spacing_mm)
    return masses[1:-1, 1:-1, 1:-1] & ~lung


@dataclass(frozen=True, eq=False)
class _Border:
    """The coarse lungs on the fine grid, with the aerated border defined by the fine voxels.

    core: blocks that are entirely lung;  rim: blocks whose voxels below `air_hu` are lung.
    """

    core: Mask
    rim: Mask
    air_hu: float

    @classmethod
    def of(cls, lungs: Mask, *, dense: Mask, barred: Mask, air_hu: float) -> _Border:
        """dense: lung that is kept at any HU;  barred: blocks into which the border must not move."""
        cross = ndimage.generate_binary_structure(3, 1)
        core = ndimage.binary_erosion(lungs, cross, border_value=1) | dense
        return cls(core, ndimage.binary_dilation(lungs, cross) & ~barred, air_hu)

    def redraw(self, upright: Volume, coarse: Coarse, sides: NDArray[np.uint8], *, onto: NDArray[np.uint8]) -> None:
        """Write the side of each lung voxel into `onto`, zeros on the grid of `upright`; padding is not lung."""
        inside = np.where(self.core, sides, 0).astype(np.uint8)
        open_to = np.where(self.rim | self.core, sides, 0).astype(np.uint8)
        scanned = np.any([(upright.array[planes] > PADDING_HU).any(0) for planes in slabs(onto, upright.array)], axis=0)
        for planes in slabs(onto, upright.array, copies=4):
            sure, maybe = (coarse.spread(values, upright.shape, planes) for values in (inside, open_to))
            onto[planes] = np.where(upright.array[planes] < self.air_hu, maybe, sure) * scanned
