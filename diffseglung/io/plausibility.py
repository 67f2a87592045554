"""Is this a CT in HU, and is its quality sufficient? A scan that is no CT is an error, a limitation is a note."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffseglung.platform.errors import GeometryError, InputError
from diffseglung.platform.out_of_core import slabs, zeros
from diffseglung.volume import Array, Reorientation, Volume

PADDING_HU = -1024.0
"""Value outside the reconstructed field of view; lower values are raised to it."""

MIN_VOXELS = 8
"""Along every axis: fewer hold neither texture nor a lung."""
SPACING_MM = (0.1, 20.0)
THICK_MM = 3.0
SHORT_MM = 160.0
AIR_TOLERANCE_HU = 15.0
TISSUE_HU = -300.0
DARK_END_HU = -960.0
"""If the lowest value of a scan is higher, its dark values were cut off and emphysema may be missed."""
WILD_HU, WILD_SHARE = 10_000.0, 0.01
"""Only metal exceeds this, in few voxels; if more do, the byte order or number type is wrong."""
CUT_FRACTION = 0.2
"""Lungs are cut off at a face of the scan where their area exceeds this share of their largest cross-section."""


def check_hu(volume: Volume, name: str, unit: str = "mm") -> Volume:
    """The volume as float32 with padding raised to -1024 HU.  Raises InputError, with the defect and its remedy.

    unit: of the lengths in its header, for the message.

    >>> try:
    ...     check_hu(Volume(np.zeros((8, 8, 8), np.float32), np.eye(4)), "ct.nii.gz")
    ... except InputError as error:
    ...     error.problem
    'ct.nii.gz is constant: every voxel is 0'
    """
    _check_grid(volume, name, unit)
    stored = volume.array
    hu, ranges = zeros(volume.shape, np.float32), []
    for planes in slabs(hu, stored):
        part = np.asarray(stored[planes], np.float32)
        ranges.append(_Range.of(part))
        np.maximum(part, np.float32(PADDING_HU), out=hu[planes])
    _check_range(_Range.over(ranges), stored, name)
    return volume.with_array(hu)


@dataclass(frozen=True)
class _Range:
    """low, high: of the finite values.  Counts: bad not finite, airy below -200 HU, dense above, wild above WILD_HU."""

    low: float
    high: float
    bad: int
    airy: int
    dense: int
    wild: int

    @classmethod
    def of(cls, values: NDArray[np.float32]) -> _Range:
        low, high = float(values.min()), float(values.max())
        bad = 0
        if not np.isfinite(low) or not np.isfinite(high):
            good = values[np.isfinite(values)]
            bad = values.size - good.size
            low, high = (float(good.min()), float(good.max())) if good.size else (np.inf, -np.inf)
        wild = int(np.count_nonzero(values > WILD_HU)) if high > WILD_HU else 0
        return cls(low, high, bad, int(np.count_nonzero(values < -200)), int(np.count_nonzero(values > -200)), wild)

    @classmethod
    def over(cls, parts: list[_Range]) -> _Range:
        low, high = min(p.low for p in parts), max(p.high for p in parts)
        counts = (sum(getattr(p, name) for p in parts) for name in ("bad", "airy", "dense", "wild"))
        return cls(low, high, *counts)


def _check_grid(volume: Volume, name: str, unit: str) -> None:
    thin = min(volume.shape)
    if thin == 1:
        raise InputError(
            f"{name} is a single 2D image (shape {volume.shape})",
            remedy="pass the whole scan: a volume, or the folder with all slices of the series",
        )
    if thin < MIN_VOXELS:
        what = ("slices", "rows", "columns")[volume.shape.index(thin)]
        raise InputError(
            f"{name} has only {thin} {what} (shape {volume.shape})",
            remedy=f"pass the whole scan; at least {MIN_VOXELS} voxels along every axis are needed",
        )
    low, high = SPACING_MM
    if not all(low <= s <= high for s in volume.spacing_mm):
        spacing = " x ".join(f"{s:.4g}" for s in volume.spacing_mm)
        raise GeometryError(
            f"{name} has an impossible voxel spacing of {spacing} mm (Z, Y, X)"
            + (f"; its header gives lengths in {unit!r}" if unit != "mm" else ""),
            remedy="correct the spacing in the header, in millimetres",
        )
    axes = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    if np.abs(axes.T @ axes - np.eye(3)).max() > 0.02:
        raise GeometryError(
            f"{name} is sheared: its axes are not at right angles (gantry tilt)",
            remedy="resample it onto an upright grid first, for example with `dcm2niix` or 3D Slicer",
        )


def _check_range(found: _Range, hu: Array, name: str) -> None:
    """Each branch is one way in which a CT loses its HU scale, from the most specific to the most general."""
    if found.bad:
        raise InputError(
            f"{name} holds {found.bad} voxels that are NaN or infinite",
            remedy="export the scan again, or set these voxels to -1024 HU",
        )
    low, high = found.low, found.high
    span = f"from {low:g} to {high:g}"
    if low == high:
        raise InputError(f"{name} is constant: every voxel is {low:g}", remedy="export the scan again from its source")
    if low >= 0 and _looks_like_labels(hu, high):
        raise InputError(
            f"{name} is a mask or label map, not a CT: its few values run {span}",
            remedy="pass the CT; pass a lung mask with --lung-mask",
        )
    if low >= -1.001 and high <= 1.001:
        raise InputError(
            f"{name} is normalised: its values run {span}",
            remedy="pass the CT in HU, or store normalised values as an NPZ case (`ct`, `mask`)",
        )
    if low >= 0 and high <= 255:
        raise InputError(
            f"{name} holds image grey levels ({span}), not HU",
            remedy="export the original CT in HU; 8-bit images (PNG, JPEG) have lost the scale",
        )
    if max(-low, high) > 1e5 or found.wild > WILD_SHARE * hu.size:
        raise InputError(
            f"{name} holds values {span}, which no CT has",
            remedy="export it again with the correct number type and byte order",
        )
    if low >= 0 and _looks_offset(hu):
        raise InputError(
            f"{name} looks like a CT stored with an offset: its values run {span}, with soft tissue near 1000",
            remedy="add -1024 to every voxel (the rescale intercept is missing), then pass it again",
        )
    if found.airy < 1e-3 * hu.size:
        raise InputError(
            f"{name} has no air: its values run {span}, as in MR, PET or a bone or soft-tissue crop",
            remedy="pass a chest CT in HU, in which lung lies near -850 and outside air near -1000",
        )
    if found.dense < 1e-4 * hu.size:
        raise InputError(
            f"{name} has no tissue: its values run {span}, all darker than -200 HU",
            remedy="check that the rescale intercept was not applied twice, and pass the CT in HU",
        )


def _looks_like_labels(values: Array, highest: float) -> bool:
    """Whether values are a few whole numbers: at most 12 for values up to 255 (could be grey levels), else 64."""
    found = np.unique(values[:: max(1, values.shape[0] // 16)])
    few = 12 if highest <= 255 else 64
    return len(found) <= few and bool((found == np.round(found)).all())


def _looks_offset(values: Array) -> bool:
    """Air below 400 and a soft-tissue peak between 850 and 1250, as in raw 12-bit CT."""
    counts, edges = np.histogram(values, bins=40, range=(600, 1600))
    peak = float(edges[int(counts.argmax())])
    return bool(850 <= peak <= 1250 and np.mean(values < 400) > 0.01 and np.mean(values > 1250) < 0.3)


def quality_notes(ct: Volume) -> list[str]:
    """Sentences on the limitations of this CT (HU) that are known before its lungs are; empty for a good scan."""
    canonical = Reorientation.of(ct).apply(ct)
    height = canonical.shape[0] * canonical.spacing_mm[0]
    return scan_sentences(max(ct.spacing_mm), height, darkest_hu(ct), air_peak_hu(ct))


def darkest_hu(ct: Volume) -> float:
    """Lowest value of the scan."""
    return float(min(ct.array[planes].min() for planes in slabs(ct.array)))


def scan_sentences(thickest_mm: float, height_mm: float, darkest_hu: float, air_hu: float | None) -> list[str]:
    """Sentences on the largest voxel spacing, the height of the scan, its lowest value, and air around the body."""
    notes = []
    if thickest_mm > THICK_MM + 0.01:
        notes.append(
            f"voxels are up to {thickest_mm:.1f} mm apart (more than {THICK_MM:g} mm): fine texture, and so fibrosis "
            "and small lesions, cannot be recognised reliably"
        )
    if height_mm < SHORT_MM:
        notes.append(f"the scan covers only {height_mm:.0f} mm from feet to head: the lungs are probably incomplete")
    if darkest_hu > DARK_END_HU:
        notes.append(
            f"no voxel is darker than {darkest_hu:.0f} HU, although air reads -1000: dark values were cut off, the "
            "scale is shifted, or the scan holds no open air; emphysema may be missed"
        )
    if air_hu is not None and abs(air_hu + 1000) > AIR_TOLERANCE_HU:
        notes.append(
            f"air outside the body reads {air_hu:.0f} HU instead of -1000: HU are not calibrated, and emphysema and "
            "density figures are off by about as much"
        )
    return notes


def cut_ends(lungs: Volume) -> list[str]:
    """The places where lungs (0 outside) end in a large flat cut: faces of the scan, or slices inside it."""
    areas = cross_sections(Reorientation.of(lungs).apply(lungs).array)
    cut = []
    ends = (("lowest slice", "highest slice"), ("front", "back"), ("right", "left"))
    for axis, (sides, area) in enumerate(zip(ends, areas, strict=True)):
        most = CUT_FRACTION * area.max()
        cut += [f"{side} of the scan" for side, end in zip(sides, (0, -1), strict=True) if area[end] > most]
        filled = np.flatnonzero(area)
        if axis == 0 and len(filled):
            inner = (("lower end", 0, area[0]), ("upper end", -1, area[-1]))
            cut += [f"{end}, inside the scan" for end, i, face in inner if not face and area[filled[i]] > most]
    return cut


def cross_sections(mask: Array, *labels: int) -> list[NDArray[np.int64]]:
    """Number of set voxels (or voxels of `labels`) in each plane across each axis of a mask or label map (Z, Y, X).

    >>> mask = np.zeros((2, 3, 4), np.uint8)
    >>> mask[1, 2, :3] = 1
    >>> [area.tolist() for area in cross_sections(mask)]
    [[0, 3], [0, 0, 3], [1, 1, 1, 0]]
    """
    areas = [np.zeros(n, np.int64) for n in mask.shape]
    for planes in slabs(mask):
        inside = np.isin(mask[planes], labels) if labels else mask[planes] > 0
        areas[0][planes] = np.count_nonzero(inside, (1, 2))
        flat = inside.sum(0, dtype=np.int32)
        areas[1] += flat.sum(1)
        areas[2] += flat.sum(0)
    return areas


def occupied(ct: Volume) -> tuple[slice, slice, slice]:
    """The bounding box of all tissue in a scan, including the table; the whole scan if there is none."""
    found = [np.zeros(n, bool) for n in ct.shape]
    for planes in slabs(ct.array):
        tissue: Array = np.asarray(ct.array[planes] > TISSUE_HU)
        found[0][planes] = np.any(tissue, (1, 2))
        flat = np.any(tissue, 0)
        found[1] |= np.any(flat, 1)
        found[2] |= np.any(flat, 0)
    if not found[0].any():
        return slice(0, ct.shape[0]), slice(0, ct.shape[1]), slice(0, ct.shape[2])
    z, y, x = (np.flatnonzero(line) for line in found)
    return slice(z[0], z[-1] + 1), slice(y[0], y[-1] + 1), slice(x[0], x[-1] + 1)


def air_peak_hu(ct: Volume) -> float | None:
    """Most frequent HU of the air around the body; None if there is no such air.

    Measured in a 3-voxel border of the slices, cropped to `occupied` if that still shows air. Padding (a single, very
    frequent value) is ignored. The search range excludes severe emphysema at the border of a tight crop.
    """
    upright = Reorientation.of(ct).apply(ct)
    peak = _rim_peak_hu(upright.array[occupied(upright)])
    return _rim_peak_hu(upright.array) if peak is None else peak


def _rim_peak_hu(array: Array) -> float | None:
    counts = np.zeros(401)
    for planes in slabs(array):
        part = array[planes]
        rim = [part[:, :3], part[:, -3:], part[:, 3:-3, :3], part[:, 3:-3, -3:]]
        values = np.concatenate([np.asarray(piece, np.float32).ravel() for piece in rim])
        counts += np.bincount(np.clip(np.rint(values), -1100, -700).astype(int) + 1100, minlength=401)
    total = counts.sum()
    counts[[0, -1]] = 0
    around = np.stack([np.roll(counts, shift) for shift in (-4, -3, -2, 2, 3, 4)])
    heaps = counts > 8 * (np.median(around, 0) + 1)
    smooth = np.convolve(np.where(heaps, np.median(around, 0), counts), np.ones(9) / 9, "same")
    peak = int(smooth.argmax()) - 1100
    near = smooth[max(0, peak + 1100 - 15) : peak + 1100 + 16].sum()
    if not -1060 <= peak <= -940 or near < max(500.0, 0.02 * total):
        return None
    return float(peak)
