"""Plausibility of a lung mask, found or given: checks against the body, its bones, air alone and a network.

`lung_quality` measures, `lung_sentences` warns; docs/quality.md gives the source of each limit. A value that cannot be
measured is None and does not lower the score.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diffseglung.case.resample import resample_onto
from diffseglung.io.plausibility import cross_sections
from diffseglung.lungs import anatomy as learned
from diffseglung.lungs.air_only import AIR_HU, plain_air
from diffseglung.lungs.anatomy import Anatomy, within_scan
from diffseglung.lungs.coarse import Coarse, Mask, bounds, slice_hulls
from diffseglung.lungs.homogeneous import organ_parts, pleural_fluid
from diffseglung.lungs.orientation import EXCHANGES
from diffseglung.lungs.sides import LEFT, RIGHT
from diffseglung.lungs.torso import Torso
from diffseglung.volume import Volume

DENSE_HU = -300.0
"""Lung denser than this is consolidation where it fills space."""
FAT_HU, FAT_SD_HU, FAT_MM = (-150.0, -50.0), 60.0, 7.0
"""Fat: the mean over FAT_MM lies in FAT_HU, and the standard deviation is below FAT_SD_HU."""
BONE_HU, BONES_ML = 150.0, 100.0
"""With less bone the scan is a phantom, and is not checked against the ribs."""
SLAB_MM = 16.0
"""Ribs are oblique: bones this far above and below a slice belong to it."""
RIM_SHARE = 0.15
"""A slice cuts the body if its rim has more body than this share of the body's width and depth."""
SURE, UNSURE = 0.75, 0.25
"""Shares of a 6 mm voxel at which mask and network disagree; borders lie between."""
LITTLE_ML, SMALL_SHARE, WHITE_SHARE = 300.0, 0.08, 0.6
"""Hardly any lung; share of a side that is missing or very small; dense share of a side that is mostly dense."""
FLUID_ML = 50.0
"""Smaller amounts are neither sought nor reported."""
MOST_CUT = 0.5
TOLD = 0.75
"""A part of the score below this is reported."""
TURNED = 0.9
"""An exchange of this probability is reported."""
LIMITS = {
    "outside_ml": (10.0, 100.0),
    "beyond_ribs_ml": (10.0, 100.0),
    "fat_ml": (10.0, 100.0),
    "plain_dice": (0.94, 0.80),
    "learned_dice": (0.90, 0.75),
    "unexpected_ml": (50.0, 230.0),
    "missed_ml": (50.0, 230.0),
    "other_side_share": (0.02, 0.15),
    "turns": (0.7, 1.0),
}
"""Values at which each part of the score is 1 and 0."""


@dataclass(frozen=True, kw_only=True)
class LungQuality:
    """Measurements; None where impossible.

    score:                     0 wrong to 1 right: the lowest of `parts`;  weakest: its name, below 1.
    right_ml, left_ml:         volume of each lung.  right_dense, left_dense: share of each above DENSE_HU.
    outside_ml:                lung outside the body.
    beyond_ribs_ml:            lung in the body that lies outside the hull of its bones.
    fat_ml, fat_share:         fat in the lung above DENSE_HU.
    plain_dice:                aerated lung against `plain_air`.
    learned_dice:              lungs against those of the network, each side against its own.
    unexpected_ml, missed_ml:  lung in the mask but not in the network's, and the reverse.
    fluid_ml:                  fluid next to the lungs that is lung for the network but not in the mask.
    other_side_share:          share of the lung that the network assigns to the other side.
    turns:                     probability of each of `orientation.EXCHANGES`.
    body_cut:                  share of the slices with lung whose body is cut at its sides.
    """

    right_ml: float
    left_ml: float
    right_dense: float | None
    left_dense: float | None
    outside_ml: float
    beyond_ribs_ml: float | None
    fat_ml: float
    fat_share: float | None
    plain_dice: float | None
    learned_dice: float | None
    unexpected_ml: float
    missed_ml: float
    fluid_ml: float
    other_side_share: float | None
    turns: tuple[float, float, float, float]
    body_cut: float
    score: float = field(init=False)
    weakest: str | None = field(init=False)

    def __post_init__(self) -> None:
        """Set the score."""
        found = parts(self)
        weakest = min(found, key=lambda name: found[name])
        object.__setattr__(self, "score", found[weakest])
        object.__setattr__(self, "weakest", weakest if found[weakest] < 1 else None)

    @property
    def total_ml(self) -> float:
        """Both lungs."""
        return self.right_ml + self.left_ml


def parts(q: LungQuality) -> dict[str, float]:
    """Score of each check: 1 passed, 0 failed, linear between (`LIMITS`)."""
    values = {name: getattr(q, name) for name in LIMITS if name != "turns"} | {"turns": max(q.turns)}
    return {name: _part(value, *LIMITS[name]) for name, value in values.items()}


def _part(value: float | None, right: float, wrong: float) -> float:
    return 1.0 if value is None else round(min(max(0.0, (value - wrong) / (right - wrong)), 1.0), 3)


def lung_quality(ct: Volume, lungs: Volume, anatomy: Anatomy, torso: Torso | None = None) -> LungQuality:
    """Check lungs (0 outside, 1 right, 2 left) on the grid of their CT (HU, any orientation).

    anatomy, torso: of this CT; the torso is computed if not given.
    """
    torso = torso or Torso.of(ct)
    coarse, body, sides = torso.coarse, torso.body, torso.sampled(lungs)
    lung, dense = sides > 0, coarse.hu > DENSE_HU
    right, left = (float(cross_sections(lungs.array, side)[0].sum()) * lungs.voxel_ml for side in (RIGHT, LEFT))
    rim = body & _rim(coarse)
    beyond = _beyond_ribs(coarse, body, lung)
    fat = _fat(coarse, lung & dense)
    upside, backward, mirrored, swapped = (round(turn, 4) for turn in anatomy.turns)
    matched = _Match.of(torso, sides, anatomy)
    return LungQuality(
        right_ml=round(right, 1),
        left_ml=round(left, 1),
        right_dense=_share(dense, sides == RIGHT),
        left_dense=_share(dense, sides == LEFT),
        outside_ml=_ml(coarse, lung & ~body),
        beyond_ribs_ml=None if beyond is None else _ml(coarse, beyond),
        fat_ml=_ml(coarse, fat),
        fat_share=_share(fat, lung & dense),
        plain_dice=_dice(lung & (coarse.hu < AIR_HU), plain_air(coarse, body, torso.airways)),
        learned_dice=matched.dice,
        unexpected_ml=matched.unexpected_ml,
        missed_ml=matched.missed_ml,
        fluid_ml=matched.fluid_ml,
        other_side_share=matched.other_side_share,
        turns=(upside, backward, mirrored, swapped),
        body_cut=_cut_share(rim, body, lung),
    )


def lung_sentences(q: LungQuality) -> list[str]:
    """A warning for each problem: what was found, and what not to trust."""
    return [*_about_header(q), *_about_place(q), *_about_finders(q), *_about_sides(q)]


def _about_header(q: LungQuality) -> list[str]:
    return [
        f"{what} seem to be exchanged (probability {turn:.2f}): check the header and how the scan was converted; sides "
        "and thirds, and the lungs themselves, may be wrong"
        for what, turn in zip(EXCHANGES, q.turns, strict=True)
        if turn > TURNED
    ]


def _about_place(q: LungQuality) -> list[str]:
    found, notes = parts(q), []
    if found["outside_ml"] < TOLD:
        notes.append(
            f"{q.outside_ml:.0f} mL of the lung mask lie outside the body: room air there counts as emphysema; "
            "correct the mask"
        )
    if found["beyond_ribs_ml"] < TOLD:
        notes.append(
            f"{q.beyond_ribs_ml:.0f} mL of the lung mask lie outside the rib cage: breast, chest wall or abdomen there "
            "counts as consolidation; correct the mask"
        )
    if found["fat_ml"] < TOLD and q.fat_share is not None:
        notes.append(
            f"{q.fat_ml:.0f} mL of the dense part of the lung mask ({100 * q.fat_share:.0f} %) look like fat: "
            "consolidation is overestimated; correct the mask"
        )
    if q.fluid_ml > FLUID_ML:
        notes.append(
            f"{q.fluid_ml:.0f} mL beside the lungs look like fluid, such as a pleural effusion: not counted as lung"
        )
    if q.body_cut > MOST_CUT:
        notes.append(
            f"the sides of the scan cut the body in {100 * q.body_cut:.0f} % of the slices with lung: whether the "
            "lungs are whole there cannot be checked"
        )
    return notes


def _about_finders(q: LungQuality) -> list[str]:
    found, notes = parts(q), []
    learned_off = min(found[name] for name in ("learned_dice", "unexpected_ml", "missed_ml")) < TOLD
    if learned_off and q.learned_dice is not None:
        notes.append(
            f"the lung mask and the lungs expected by a network agree with a Dice of {q.learned_dice:.2f} "
            f"({q.unexpected_ml:.0f} mL more, {q.missed_ml:.0f} mL less): check the outline in the picture"
        )
    if found["plain_dice"] < TOLD and q.plain_dice is not None:
        notes.append(
            f"the air in the lung mask and the lungs found by thresholds agree with a Dice of {q.plain_dice:.2f}: "
            "check the outline in the picture"
        )
    if found["other_side_share"] < TOLD and q.other_side_share is not None:
        notes.append(
            f"{100 * q.other_side_share:.0f} % of the lung mask seem to belong to the other side: values of the right "
            "and the left lung may be wrong"
        )
    return notes


def _about_sides(q: LungQuality) -> list[str]:
    if q.total_ml < LITTLE_ML:
        return [
            f"there is hardly any lung in the scan ({q.total_ml:.0f} mL): shares and densities are of a small part, "
            "and the healthy level is uncertain"
        ]
    notes = []
    for side, ml, dense in (("right", q.right_ml, q.right_dense), ("left", q.left_ml, q.left_dense)):
        if ml < SMALL_SHARE * q.total_ml:
            notes.append(
                f"the {side} lung is {'very small' if ml else 'missing'} ({ml:.0f} of {q.total_ml:.0f} mL): removed, "
                "collapsed, or missing from the mask; check the outline"
            )
        elif dense is not None and dense > WHITE_SHARE:
            notes.append(
                f"{100 * dense:.0f} % of the {side} lung are as dense as tissue: collapse, fluid or a tumour counts as "
                "consolidation there, or the mask contains another organ"
            )
    return notes


@dataclass(frozen=True)
class _Match:
    """The mask compared with the network's lungs; fields of `LungQuality`."""

    dice: float | None
    unexpected_ml: float
    missed_ml: float
    fluid_ml: float
    other_side_share: float | None

    @classmethod
    def of(cls, torso: Torso, sides: NDArray[np.uint8], anatomy: Anatomy) -> _Match:
        """Both on the network's grid. Fluid and organs that are lung for the network do not count as missed."""
        likely = np.where(within_scan(torso.grid, anatomy.grid), anatomy.classes.argmax(0), learned.ROOM)
        expected = np.stack([likely == learned.RIGHT, likely == learned.LEFT])
        shares = np.stack([_shares(torso, sides == side, anatomy.grid) for side in (RIGHT, LEFT)])
        held, ml = shares > 0.5, anatomy.grid.voxel_ml
        lung, sure = shares.sum(0), anatomy.classes[[learned.RIGHT, learned.LEFT]].sum(0)
        sure[likely == learned.ROOM] = 0
        missed, fluid_ml = (lung < UNSURE) & (sure > SURE), 0.0
        if ml * np.count_nonzero(missed) > FLUID_ML:
            tissue = torso.body & (sides == 0) & (torso.coarse.hu > FAT_HU[0])
            there = tissue & (anatomy.onto(torso.grid)[[learned.RIGHT, learned.LEFT]].sum(0) > 0.5)
            fluid = pleural_fluid(torso.coarse, there)
            fluid_ml = _ml(torso.coarse, fluid)
            even = _shares(torso, fluid | organ_parts(torso.coarse, there, tissue), anatomy.grid)
            missed &= even < UNSURE
            expected &= even < 0.5
        return cls(
            dice=_dice(held, expected),
            unexpected_ml=round(ml * int(np.count_nonzero((lung > SURE) & (sure < UNSURE))), 1),
            missed_ml=round(ml * int(np.count_nonzero(missed)), 1),
            fluid_ml=fluid_ml,
            other_side_share=_share(expected[::-1], held),
        )


def _shares(torso: Torso, mask: Mask, grid: Volume) -> NDArray[np.float32]:
    """Share of each voxel of another grid that a mask on the torso's grid fills."""
    return np.asarray(resample_onto(torso.grid.with_array(mask.astype(np.float32)), grid, fill=0.0).array, np.float32)


def _rim(coarse: Coarse) -> Mask:
    """The outermost reconstructed blocks of each slice (Y, X)."""
    return np.asarray(coarse.scanned & ~ndimage.binary_erosion(coarse.scanned))


def _cut_share(rim: Mask, body: Mask, lung: Mask) -> float:
    """Share of the slices with lung that have body on their rim."""
    edges = sum(np.count_nonzero(body.any(axis), 1) for axis in (1, 2))  # (Z,): width and depth
    cut = np.count_nonzero(rim, (1, 2)) > RIM_SHARE * edges
    slices = lung.any((1, 2))
    return round(float(cut[slices].mean()), 3) if slices.any() else 0.0


def _beyond_ribs(coarse: Coarse, body: Mask, lung: Mask) -> Mask | None:
    """Lung in the body outside the convex hull of the bones near its slice; None without a rib cage."""
    bone = body & (coarse.hu > BONE_HU)
    if not lung.any() or np.count_nonzero(bone[bounds(lung)[0]]) * coarse.voxel_ml < BONES_ML:
        return None
    slab = 2 * round(SLAB_MM / coarse.spacing_mm[0]) + 1
    near = np.asarray(ndimage.maximum_filter1d(bone.astype(np.uint8), slab, axis=0), bool)
    return lung & body & ~slice_hulls(near)


def _fat(coarse: Coarse, dense: Mask) -> Mask:
    """Dense lung as homogeneous as fat; partial volume and partly filled lung are heterogeneous."""
    found = np.zeros_like(dense)
    if not dense.any():
        return found
    box = tuple(slice(max(0, s.start - 3), s.stop + 3) for s in bounds(dense))
    hu = coarse.hu[box].astype(np.float64)
    reach = [2 * round((FAT_MM / mm - 1) / 2) + 1 if mm < FAT_MM else 1 for mm in coarse.spacing_mm]
    mean = ndimage.uniform_filter(hu, reach)
    spread = ndimage.uniform_filter(hu**2, reach) - mean**2
    found[box] = dense[box] & (mean > FAT_HU[0]) & (mean < FAT_HU[1]) & (spread < FAT_SD_HU**2)
    return found


def _ml(coarse: Coarse, mask: Mask) -> float:
    return round(coarse.voxel_ml * int(np.count_nonzero(mask)), 1)


def _share(part: Mask, of: Mask) -> float | None:
    count = int(np.count_nonzero(of))
    return round(int(np.count_nonzero(part & of)) / count, 3) if count else None


def _dice(a: Mask, b: Mask) -> float | None:
    both = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
    return round(2 * int(np.count_nonzero(a & b)) / both, 3) if both else None
