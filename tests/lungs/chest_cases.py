"""Chests that hospitals have, made from one whose lungs are known: filled, emptied, taken out, dressed, cut, turned.

Every maker takes a case and gives another. Axes (Z, Y, X) run to the head, the back and the left unless a maker says
that the voxels are stored otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from diffseglung.case.resample import resample
from diffseglung.io.nifti import read_nifti
from diffseglung.lungs.coarse import slice_hulls
from diffseglung.volume import Reorientation, Volume

RIGHT, LEFT = 1, 2
AIR_HU, FAT_HU, CLOTH_HU, FLUID_HU, AIRLESS_HU, BONE_HU = -1000.0, -100.0, -350.0, 10.0, 35.0, 500.0
WALL_MM = 15.0
"""Chest wall drawn around a scan that was cropped to its lungs."""


@dataclass(frozen=True, eq=False)
class Case:
    """ct: HU;  on its grid lungs: 0, 1 right, 2 left;  room: outside the body;  changed: drawn into the lungs."""

    ct: Volume
    lungs: np.ndarray
    room: np.ndarray
    changed: np.ndarray

    @classmethod
    def of(cls, ct: Volume, lungs: np.ndarray) -> Case:
        return cls(ct, lungs, np.zeros(lungs.shape, bool), np.zeros(lungs.shape, bool))

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        return self.ct.spacing_mm

    def repainted(self, where: np.ndarray, hu: np.ndarray | float, *, counts: bool = True) -> Case:
        """Other densities in `where`; what of it is lung counts as changed, or not."""
        ct = self.ct.with_array(np.where(where, np.float32(hu), self.ct.array).astype(np.float32))
        return replace(self, ct=ct, changed=self.changed | (where & (self.lungs > 0)) if counts else self.changed)

    def noise(self, sd: float, *, grain_mm: float = 0.0) -> np.ndarray:
        """Normal deviates of this standard deviation, smooth over `grain_mm`; the same for every call."""
        values = np.random.default_rng(7).standard_normal(self.lungs.shape)
        if grain_mm:
            values = ndimage.gaussian_filter(values, [grain_mm / mm for mm in self.spacing_mm])
        return sd * values / values.std()

    def millilitres(self, mask: np.ndarray) -> float:
        return float(mask.sum()) * self.ct.voxel_ml


def real_chest(folder: Path, spacing_mm: float) -> Case:
    """The demo's scan of a nearly normal chest, cropped to its lungs, and its lungs."""
    ct, lungs = (read_nifti(folder / f"lidc_1011{part}.nii.gz") for part in ("", "_lungs"))
    turn = Reorientation.of(ct)
    upright = turn.apply(ct.with_array(ct.array.astype(np.float32)))
    small = resample(upright, spacing_mm)
    return Case.of(small, resample(turn.apply(lungs), spacing_mm, order=0).array)


# ---------------------------------------------------------------- lungs


def height_and_depth(lung: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How high a voxel lies in this lung, 0 base to 1 apex, and how far back, 0 front to 1 back."""
    spans = [np.flatnonzero(lung.any(axes)) for axes in ((1, 2), (0, 2))]
    z, y = (np.clip((np.arange(n) - s[0]) / (s[-1] - s[0]), 0, 1) for n, s in zip(lung.shape, spans, strict=False))
    return np.broadcast_to(z[:, None, None], lung.shape), np.broadcast_to(y[None, :, None], lung.shape)


def part_of_lung(case: Case, side: int, part: str) -> np.ndarray:
    """One lung, all but its apex, base or front, or a lobe: the fissure runs from the upper back to the lower front."""
    lung = case.lungs == side
    height, depth = height_and_depth(lung)
    lower = height < 0.05 + 0.65 * depth
    parts = {
        "whole": lung,
        "all but the apex": lung & (height < 0.85),
        "all but the base": lung & (height > 0.25),
        "all but the front": lung & (depth > 0.25),
        "upper lobe": lung & ~lower,
        "lower lobe": lung & lower,
    }
    return parts[part]


def filled(case: Case, where: np.ndarray, *, hu: float = AIRLESS_HU) -> Case:
    """Airless lung: consolidated, or collapsed with fluid around it."""
    return case.repainted(where, hu + case.noise(12, grain_mm=4))


def emptied(case: Case, where: np.ndarray, *, wall: bool, hu: float = -990.0) -> Case:
    """Air alone, as in a bulla or end-stage emphysema, with a wall or none; the wall does not count as changed."""
    shell = where & wall_of(case, where) if wall else np.zeros_like(where)
    return case.repainted(where & ~shell, hu + case.noise(10)).repainted(shell, -50.0, counts=False)


def wall_of(case: Case, where: np.ndarray) -> np.ndarray:
    """One voxel of the slices' plane."""
    return ndimage.distance_transform_edt(where, sampling=case.spacing_mm) < 1.2 * case.spacing_mm[2]


def ball(case: Case, side: int, diameter_mm: float, *, height: float) -> np.ndarray:
    """What of one lung lies in a ball at its outer surface, at this height of it (0 base, 1 apex)."""
    lung = case.lungs == side
    z = round(float(np.quantile(np.flatnonzero(lung.any((1, 2))), height)))
    y = round(float(np.mean(np.nonzero(lung[z])[0])))
    line = np.flatnonzero(lung[z, y])
    inward = diameter_mm / 2 / case.spacing_mm[2]
    x = line[0] + inward if side == RIGHT else line[-1] - inward
    return ellipsoid(case, (z, y, x), (diameter_mm / 2,) * 3) & lung


def ellipsoid(case: Case, centre: tuple[float, float, float], radii_mm: tuple[float, float, float]) -> np.ndarray:
    """centre: voxels (z, y, x)."""
    axes = np.ogrid[tuple(slice(0, n) for n in case.lungs.shape)]
    return sum(((a - c) * s / r) ** 2 for a, c, s, r in zip(axes, centre, case.spacing_mm, radii_mm, strict=True)) < 1


def removed(case: Case, side: int, hu: float) -> Case:
    """One lung taken out long ago: fluid or fat in its place, which is no lung."""
    gone = case.lungs == side
    left = case.repainted(gone, hu + case.noise(12, grain_mm=4))
    return replace(left, lungs=np.where(gone, 0, case.lungs).astype(np.uint8), changed=np.zeros_like(gone))


def with_effusion(case: Case, side: int, depth: float, hu: float = FLUID_HU) -> Case:
    """Fluid in the pleural space of one side, sunk to the back and the base: what lay there is lung no more."""
    lung = case.lungs == side
    height, back = height_and_depth(lung)
    fluid = lung & (back - 0.5 * height > depth)
    wet = case.repainted(fluid, hu + case.noise(12))
    return replace(wet, lungs=np.where(fluid, 0, case.lungs).astype(np.uint8), changed=np.zeros_like(fluid))


def lying(case: Case, down: str) -> Case:
    """The denser part of the lungs turned to the side that lies on the couch: front, left or right."""
    axis, sign = {"front": (1, -1), "left": (2, 1), "right": (2, -1)}[down]
    lung = (case.lungs > 0) & (case.ct.array < -600)
    slopes = [np.zeros(n) for n in case.lungs.shape]
    for at, slope in ((axis, sign), (1, -1)):  # towards `down`, and back against what gravity did to the patient
        along = np.flatnonzero(lung.any(tuple(i for i in range(3) if i != at)))
        slopes[at] = slopes[at] + slope * (np.arange(lung.shape[at]) - along.mean()) / len(along)
    tilt = slopes[0][:, None, None] + slopes[1][None, :, None] + slopes[2]
    return case.repainted(lung, case.ct.array + 60 * tilt, counts=False)


# ---------------------------------------------------------------- body and surroundings


def with_room(case: Case, front_mm: float = 66.0, around_mm: float = 36.0) -> Case:
    """The chest wall of a cropped scan completed by fat and skin, and air around it."""
    _, y, x = case.spacing_mm
    back, side, front = round(around_mm / y), round(around_mm / x), round(front_mm / y)
    pads = ((0, 0), (front, back), (side, side))
    affine = case.ct.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ (0, front, side)
    hu = np.pad(case.ct.array, pads, constant_values=AIR_HU)
    inside = np.pad(~open_air(case), pads)
    grown = ndimage.distance_transform_edt(~inside, sampling=case.spacing_mm) < WALL_MM
    body = ndimage.gaussian_filter(grown.astype(np.float32), (2, 3, 3), mode="nearest") > 0.5
    skin = body & ~ndimage.binary_erosion(body, np.ones((1, 3, 3)))
    whole = Case(Volume(hu, affine), np.pad(case.lungs, pads), ~(body | inside), np.pad(case.changed, pads))
    return whole.repainted(body & ~inside, np.where(skin, 20.0, FAT_HU + whole.noise(12)))


def open_air(case: Case) -> np.ndarray:
    """Air that reaches the border of its slice."""
    in_plane = np.zeros((3, 3, 3), bool)
    in_plane[1] = ndimage.generate_binary_structure(2, 1)
    labels, _ = ndimage.label((case.ct.array < -320) & (case.lungs == 0), in_plane)
    rim = np.unique(np.concatenate([labels[:, [0, -1]].ravel(), labels[:, :, [0, -1]].ravel()]))
    return np.isin(labels, rim[rim > 0])


def skin_row(case: Case, z: int, x: int) -> int:
    """Foremost row of the body."""
    return int((~case.room[z, :, x]).argmax())


def with_breasts(case: Case) -> Case:
    """Two breasts of fat on the chest, and the air between them."""
    nz = case.lungs.shape[0]
    across = np.flatnonzero((~case.room).any((0, 1)))
    z, drawn = round(0.55 * nz), np.zeros_like(case.room)
    for share in (0.27, 0.73):
        x = round(across[0] + share * (across[-1] - across[0]))
        drawn |= ellipsoid(case, (z, skin_row(case, z, x), x), (80, 50, 55))
    drawn &= case.room
    skin = drawn & ~ndimage.binary_erosion(drawn | ~case.room)
    return case.repainted(drawn, np.where(skin, 20.0, FAT_HU + case.noise(15)))


def with_gown(case: Case) -> Case:
    """Cloth stretched over all that is there, 5 mm above it, and air with folds of cloth under it."""
    there = case.ct.array > -500
    there |= ~case.room
    hull = slice_hulls(there)
    reach = round(5 / case.spacing_mm[1])
    under = ndimage.binary_dilation(hull, np.ones((1, 3, 3)), reach)
    cloth = ndimage.binary_dilation(under, np.ones((1, 3, 3))) & ~under
    folds = np.clip(case.noise(1.0, grain_mm=5), 0, 3)
    return case.repainted(under & ~there, -985 + 50 * folds + case.noise(10)).repainted(cloth, CLOTH_HU)


def with_arms(case: Case) -> Case:
    """Both arms beside the chest, touching it here and there, with bone in them."""
    _, y, x = case.spacing_mm
    across, along = (np.flatnonzero((~case.room).any(axes)) for axes in ((0, 1), (0, 2)))
    middle = along.mean()
    rows, columns = np.ogrid[: case.lungs.shape[1], : case.lungs.shape[2]]
    for end, out in ((across[0], -1), (across[-1], 1)):
        away = np.hypot((rows - middle) * y, (columns - end - out * 16 / x) * x)[None]
        arm = np.broadcast_to(away < 30, case.room.shape) & case.room
        tissue = np.where(away < 10, BONE_HU, np.where(away < 24, 50.0, FAT_HU))
        case = case.repainted(arm, tissue + case.noise(12))
    return case


def with_couch(case: Case, where: str = "back") -> Case:
    """A hollow couch 6 mm behind the body, in front of it, or at its left or right."""
    axis = 1 if where in ("back", "front") else 2
    before = where in ("front", "right")
    mm = case.spacing_mm[axis]
    body = np.flatnonzero((~case.room).any(tuple(i for i in range(3) if i != axis)))
    first = (body[0] if before else body[-1]) + (-1 if before else 1) * round(6 / mm)
    places = (np.arange(case.lungs.shape[axis]) - first) * (-1 if before else 1) * mm
    shell = ((places >= 0) & (places < 4)) | ((places >= 18) & (places < 22))
    line = shell.reshape([-1 if i == axis else 1 for i in range(3)])
    return case.repainted(np.broadcast_to(line, case.room.shape) & case.room, 40.0)


def with_blanket(case: Case) -> Case:
    """Cloth that hangs from the foremost rows of the body to both sides and encloses air there."""
    rows = np.flatnonzero((~case.room).any((0, 2)))
    thick = max(1, round(4 / case.spacing_mm[1]))
    cloth = np.zeros_like(case.room)
    cloth[:, rows[0] - 2 * thick : rows[0] - thick] = True
    cloth[:, rows[0] - 2 * thick :, [1, 2, -3, -2]] = True
    cloth[:, rows[-1] + 1 : rows[-1] + 1 + thick] = True
    return case.repainted(cloth & case.room, CLOTH_HU)


# ---------------------------------------------------------------- fields of view and headers


def sized(case: Case, factor: float) -> Case:
    """The same chest of a smaller or larger patient."""
    affine = case.ct.affine.copy()
    affine[:3] *= factor
    return replace(case, ct=Volume(case.ct.array, affine))


def cropped(case: Case, low: tuple[int, int, int], high: tuple[int, int, int]) -> Case:
    """Indices low <= (z, y, x) < high."""
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    return Case(case.ct.crop(low, high), case.lungs[box], case.room[box], case.changed[box])


def cut(case: Case, side: str, share: float) -> Case:
    """A field of view that misses this share of the lungs' extent at one side."""
    where = np.argwhere(case.lungs > 0)
    axis, end = {"base": (0, 0), "apex": (0, 1), "front": (1, 0), "back": (1, 1), "right": (2, 0), "left": (2, 1)}[side]
    first, last = int(where[:, axis].min()), int(where[:, axis].max())
    missing = round(share * (last - first))
    low, high = [0, 0, 0], list(case.lungs.shape)
    if end:
        high[axis] = last - missing
    else:
        low[axis] = first + missing
    return cropped(case, (low[0], low[1], low[2]), (high[0], high[1], high[2]))


def circular(case: Case, radius_mm: float) -> Case:
    """The round field of a small reconstruction, padded outside."""
    _, ny, nx = case.lungs.shape
    y, x = np.ogrid[:ny, :nx]
    seen = np.hypot((y - ny / 2) * case.spacing_mm[1], (x - nx / 2) * case.spacing_mm[2])[None] < radius_mm
    lungs = np.where(seen, case.lungs, 0).astype(np.uint8)
    return replace(case, ct=case.ct.with_array(np.where(seen, case.ct.array, np.float32(-1024))), lungs=lungs)


def abdomen(case: Case, height_mm: float = 160.0) -> Case:
    """The slices below the lungs, to and fro until they fill this height, with gas in the bowel."""
    below = int(np.flatnonzero((case.lungs > 0).any((1, 2)))[0]) - 1
    count = round(height_mm / case.spacing_mm[0])
    there_and_back = np.arange(2 * below)
    order = np.resize(np.where(there_and_back < below, there_and_back, 2 * below - 1 - there_and_back), count)
    part = Case.of(Volume(case.ct.array[order], case.ct.affine), np.zeros_like(case.lungs[order]))
    _, ny, nx = part.lungs.shape
    for share, radius in ((0.25, 14), (0.45, 22), (0.7, 17)):
        gas = ellipsoid(part, (share * count, 0.35 * ny, (0.3 + share / 2) * nx), (1.6 * radius, radius, 1.3 * radius))
        part = part.repainted(gas, -995 + part.noise(10))
    return replace(part, changed=np.zeros_like(part.changed))


def stored(case: Case, *, flip: int | None = None, swap: tuple[int, int] | None = None) -> Case:
    """The voxels in another order than the header says: one axis in reverse, or two axes exchanged."""

    def turned(values: np.ndarray) -> np.ndarray:
        values = values if flip is None else np.flip(values, flip)
        return np.ascontiguousarray(values if swap is None else np.swapaxes(values, *swap))

    affine = case.ct.affine.copy()
    if swap is not None:  # each array axis keeps its spacing: only the directions are wrong
        lengths = np.asarray(case.spacing_mm)
        affine[:3, :3] *= (
            lengths[[swap[1] if i == swap[0] else swap[0] if i == swap[1] else i for i in range(3)]] / lengths
        )
    return Case(Volume(turned(case.ct.array), affine), *(turned(m) for m in (case.lungs, case.room, case.changed)))
