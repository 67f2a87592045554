"""Lung masks from other tools as 1 right lung, 2 left lung: binary, lungmask and TotalSegmentator label maps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diffseglung.case.resample import covers_same_box, resample_onto
from diffseglung.io.plausibility import cross_sections
from diffseglung.lungs.coarse import Coarse
from diffseglung.lungs.sides import LEFT, RIGHT, side_field
from diffseglung.platform.errors import GeometryError, InputError
from diffseglung.platform.out_of_core import slabs, zeros
from diffseglung.volume import Array, Reorientation, Volume

LOBES_LUNGMASK = {1: LEFT, 2: LEFT, 3: RIGHT, 4: RIGHT, 5: RIGHT}
"""lungmask LTRCLobes: left upper, left lower, right upper, right middle, right lower."""
LOBES_TOTALSEGMENTATOR = {10: LEFT, 11: LEFT, 12: RIGHT, 13: RIGHT, 14: RIGHT}
"""TotalSegmentator task `total`, version 2: the same lobes among 117 structures."""
SOFT_TOTALSEGMENTATOR = (15, 17)
"""Oesophagus and thyroid; lung lobes in version 1."""
TOTALSEGMENTATOR_LABELS = 117
GRID_MM = 2.0
"""Grid on which a binary mask is split."""
REMEDY = "pass a mask that is 1 in the lungs and 0 elsewhere, or 1 in the right and 2 in the left lung"


def adapt_mask(mask: Volume, ct: Volume) -> Volume:
    """`mask` on the grid of `ct` as uint8: 0 outside, 1 right lung, 2 left lung.

    Accepts a binary mask (any one value), lungmask R231 (1 right, 2 left) and LTRCLobes (1..5), and TotalSegmentator
    `total` (10..14). A mask with other axes or voxels is resampled onto the CT if both fill the same box.
    Raises GeometryError if they do not, InputError if the mask is empty or its labels have another meaning.
    """
    if not mask.same_grid(ct):
        if not covers_same_box(mask, ct):
            raise GeometryError(
                f"the lung mask {mask.shape} and the CT {ct.shape} do not cover the same box of the patient",
                remedy="resample the mask onto the CT, or make it from this series",
            )
        mask = resample_onto(mask, ct, order=0)
    values = _labels(mask.array)
    if len(values) == 1 and values != {LEFT}:
        return ct.with_array(_sides_of(mask, ct))
    if _is_old_numbering(mask, ct, values):
        raise InputError(
            "the label map uses the numbering of TotalSegmentator version 1, in which label 10 is the pancreas",
            remedy="segment again with TotalSegmentator 2, or " + REMEDY,
        )
    table, sides = _table(values), zeros(ct.shape, np.uint8)
    for planes in slabs(sides, mask.array):
        sides[planes] = table[np.asarray(mask.array[planes], np.intp)]
    check_sides(ct.with_array(sides))
    return ct.with_array(sides)


def _labels(array: Array) -> set[int]:
    """The labels present, without 0."""
    parts = [np.unique(array[planes]) for planes in slabs(array)]
    whole = np.unique(np.asarray(np.concatenate(parts), np.float64))
    if not np.isfinite(whole).all() or (whole != np.round(whole)).any() or (whole < 0).any():
        raise InputError("the lung mask has fractions, negative or non-finite values, not labels", remedy=REMEDY)
    values = {int(v) for v in whole if v}
    if not values:
        raise InputError("the lung mask is empty", remedy="pass another mask, or none to have the lungs found")
    return values


def _is_old_numbering(mask: Volume, ct: Volume, values: set[int]) -> bool:
    """Whether labels that are oesophagus and thyroid in TotalSegmentator 2 hold aerated lung."""
    soft = [label for label in SOFT_TOTALSEGMENTATOR if label in values]
    return any(float(np.median(ct.array[mask.array == label])) < -500 for label in soft)


def _table(values: set[int]) -> NDArray[np.uint8]:
    """Lookup table from label to side."""
    meanings: dict[int, int] | None = None
    if values <= {RIGHT, LEFT}:
        meanings = {RIGHT: RIGHT, LEFT: LEFT}
    elif values <= LOBES_LUNGMASK.keys():
        meanings = LOBES_LUNGMASK
    elif values & LOBES_TOTALSEGMENTATOR.keys() and max(values) <= TOTALSEGMENTATOR_LABELS:
        meanings = LOBES_TOTALSEGMENTATOR
    if meanings is None:
        shown = ", ".join(map(str, sorted(values)[:12]))
        raise InputError(f"the lung mask has labels of unknown meaning ({shown})", remedy=REMEDY)
    table = np.zeros(max(values) + 1, np.uint8)
    for label, side in meanings.items():
        if label in values:
            table[label] = side
    return table


def _sides_of(mask: Volume, ct: Volume) -> NDArray[np.uint8]:
    """A binary mask on the grid of `ct` split into right and left."""
    turn = Reorientation.of(ct)
    upright, lungs = turn.apply(ct), turn.apply(mask).array
    coarse = Coarse.of(upright, GRID_MM)
    share = Coarse.of(Volume(lungs, upright.affine), GRID_MM, lambda part: part != 0).hu
    sides = side_field(share >= min(0.5, float(share.max())), coarse)
    labels = zeros(ct.shape, np.uint8)
    onto = turn.view(labels)
    for planes in slabs(onto, lungs):
        onto[planes] = np.where(lungs[planes] != 0, coarse.spread(sides, upright.shape, planes), 0)
    return labels


def check_sides(sides: Volume) -> None:
    """Raise InputError if the right lung lies on the left: another convention, or a mirrored file."""
    means = []
    for side in (RIGHT, LEFT):
        areas = cross_sections(sides.array, side)
        if not areas[0].any():
            return
        centre = [float(np.average(np.arange(len(area)), weights=area)) for area in areas]
        means.append(float(sides.affine[0] @ [*centre, 1.0]))
    if means[0] >= means[1]:
        raise InputError(
            "the label of the right lung lies on the patient's left",
            remedy="check the mask's orientation and its labels; " + REMEDY,
        )
