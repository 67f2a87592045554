"""The positions of the slices of a stack, and the regular grid that holds them.

A stack with gantry tilt (each slice shifted in its plane) or uneven spacing is resampled: each slice linearly within
its own plane, then linearly between neighbouring slices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffseglung.io.plausibility import PADDING_HU
from diffseglung.platform.errors import GeometryError
from diffseglung.platform.out_of_core import zeros

Floats = NDArray[np.float64]

EVEN_MM, EVEN_SHARE = 0.05, 0.05
"""Deviation from even positions (mm, or share of a step) that is ignored: headers round positions to 0.1 mm."""
UNEVEN_SHARE = 0.25
"""Deviation from the median step, as a share, up to which slices are interpolated; beyond, series are mixed."""
GAP_SHARE = 1.5
"""A step longer than this many median steps lacks a slice, which is never interpolated: it may show a lesion."""
MANY_LONG = 0.45
"""Share of long steps from which they are not gaps but two mixed reconstructions."""
SHIFT_PIXELS = 0.5
"""In-plane shift over the whole stack, in pixels, up to which there is no tilt."""
LINE_MM = 0.5
"""First pixels farther than this from a straight line belong to several stacks."""
MAX_TILT_DEGREES = 30.0
"""CT gantries tilt by at most 30 degrees; more means another kind of stack or a damaged header."""


@dataclass(frozen=True, eq=False)
class Grid:
    """The regular grid of a stack of n slices, and the place of the slices on it.

    affine: (4, 4), index (z, y, x) to patient mm.  shape: (Z, Y, X).
    shifts: (n, 2) pixels, position of each slice's first pixel on the grid (down, across).
    heights: (n,) position of each slice along Z, in slices of the grid.
    notes: what was resampled, and why; empty if the slices are the grid.
    """

    affine: Floats
    shape: tuple[int, int, int]
    shifts: Floats
    heights: Floats
    notes: tuple[str, ...] = ()

    @property
    def resampled(self) -> bool:
        """Whether the grid differs from the slices."""
        return bool(self.notes)


def normal_of(cosines: Floats, where: str) -> Floats:
    """Unit normal of a slice plane, row direction x column direction.  Raises GeometryError.

    >>> normal_of(np.array([1.0, 0, 0, 0, 1, 0]), "a.dcm")
    array([0., 0., 1.])
    """
    row, column = cosines[:3], cosines[3:]
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if not (np.isfinite(cosines).all() and np.allclose(lengths, 1, atol=0.01) and abs(row @ column) < 0.005):
        raise GeometryError(
            f"{where} has no valid ImageOrientationPatient", remedy="export the series again from its source"
        )
    normal = np.cross(row, column)
    return np.asarray(normal / np.linalg.norm(normal))


def fit(positions: Floats, cosines: Floats, pixel_spacing: Sequence[float], matrix: tuple[int, int], name: str) -> Grid:
    """The grid of at least two slices, sorted along their normal, at different positions.

    positions: (n, 3) first pixels.  cosines: (6,).  pixel_spacing: between rows, columns.  matrix: rows, columns.
    Raises GeometryError for several stacks, missing slices, and uneven steps or tilt beyond the tolerances.
    """
    normal = normal_of(cosines, name)
    across = cosines[:3] / np.linalg.norm(cosines[:3])
    down = np.cross(normal, across)
    along = positions @ normal
    steps = np.diff(along)
    shifts = (positions - positions[0]) @ np.column_stack([down, across]) / np.asarray(pixel_spacing)
    tilt, slope = _tilt(positions, along, normal, name)
    _require_steps(along, steps, name)
    usual = float(along[-1] - along[0]) / (len(along) - 1)
    heights = (along - along[0]) / usual
    off = float(np.abs(heights - np.arange(len(along))).max())
    notes = []
    if off * usual > max(EVEN_MM, EVEN_SHARE * usual):
        notes.append(
            f"slice distances run from {steps.min():.2f} to {steps.max():.2f} mm: the slices were interpolated to even "
            f"distances of {usual:.2f} mm, and the label map has these slices, not the original ones"
        )
    else:
        heights = np.arange(len(along), dtype=np.float64)
    low = np.zeros(2)
    if np.abs(shifts[-1] - shifts[0]).max() > SHIFT_PIXELS:
        notes.append(
            f"the slices are shifted against each other (gantry tilt of {tilt:.1f} degrees): they were resampled onto "
            "an upright grid, and the label map has its slices, not the original ones"
        )
        shifts = (along - along[0])[:, None] * slope @ np.column_stack([down, across]) / np.asarray(pixel_spacing)
        low = np.floor(shifts.min(0) + 1e-6)
    else:
        shifts = np.zeros_like(shifts)
    rows, columns = (int(n) for n in np.asarray(matrix) + np.ceil(shifts.max(0) - low - 1e-6))
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = normal * usual, down * pixel_spacing[0], across * pixel_spacing[1]
    affine[:3, 3] = positions[0] + affine[:3, 1:3] @ low
    return Grid(affine, (len(along), rows, columns), shifts - low, heights, tuple(notes))


def _tilt(positions: Floats, along: Floats, normal: Floats, name: str) -> tuple[float, Floats]:
    """Angle between the stack's direction and its normal, and in-plane shift (x, y, z) per mm along the normal."""
    run, length = positions[-1] - positions[0], float(along[-1] - along[0])
    line = positions[0] + np.outer((along - along[0]) / max(length, 1e-9), run)
    if length < 0.01 * (len(along) - 1) or np.abs(positions - line).max() > LINE_MM:
        raise GeometryError(
            f"{name} is a mixed series: its slices do not form one stack",
            remedy="separate the stacks into folders and pass one of them",
        )
    slope = run / length - normal
    tilt = float(np.degrees(np.arctan(np.linalg.norm(slope))))
    if tilt > MAX_TILT_DEGREES:
        raise GeometryError(
            f"{name} is sheared by {tilt:.1f} degrees, more than any gantry tilts ({MAX_TILT_DEGREES:g} degrees)",
            remedy="export the axial series again from its source",
        )
    return tilt, slope


def _require_steps(along: Floats, steps: Floats, name: str) -> None:
    """Raises GeometryError if a slice is missing, or a step differs too much from the median."""
    usual = float(np.median(steps))
    times = steps / usual
    long = times > GAP_SHARE
    if long.any() and not _mixed(times, long):
        missing = [f"{along[i] + usual * k:.1f} mm" for i in np.flatnonzero(long) for k in range(1, round(times[i]))]
        listed = ", ".join(missing[:3]) + (" and others" if len(missing) > 3 else "")
        raise GeometryError(
            f"{name} lacks {len(missing)} of its slices: none at position {listed} along the slice normal",
            remedy="export or copy the complete series again",
        )
    if np.abs(steps - usual).max() > max(EVEN_MM, UNEVEN_SHARE * usual):
        worst = int(np.abs(steps - usual).argmax())
        elsewhere = f"from {steps.min():.2f} mm" if long.any() else f"{usual:.2f}"
        raise GeometryError(
            f"{name} has uneven slice distances: {steps[worst]:.2f} mm after slice {worst + 1} along the slice normal, "
            f"{elsewhere} elsewhere",
            remedy="resample it onto even slices first, or export one reconstruction only",
        )


def _mixed(times: Floats, long: NDArray[np.bool_]) -> bool:
    """Whether long steps come from mixed reconstructions: they are fractional (in median steps), many, or in a run."""
    broken = np.abs(times - np.rint(times)) > UNEVEN_SHARE
    run = long[2:] & long[1:-1] & long[:-2]
    return bool((broken | (times < 1 - UNEVEN_SHARE)).any() or long.mean() > MANY_LONG or run.any())


def resample(images: NDArray[np.float32], grid: Grid) -> NDArray[np.float32]:
    """Slices (n, Y, X) in HU, resampled onto the grid; -1024 HU outside them."""
    volume = zeros(grid.shape, np.float32)
    known: dict[int, NDArray[np.float32]] = {}
    for k in range(grid.shape[0]):
        below = min(max(int(np.searchsorted(grid.heights, k, "right")) - 1, 0), len(images) - 2)
        weight = (k - grid.heights[below]) / (grid.heights[below + 1] - grid.heights[below])
        pair = (below, below + 1)
        known = {i: known[i] if i in known else _shifted(images[i], grid.shifts[i], grid.shape[1:]) for i in pair}
        volume[k] = known[below] if weight < 1e-6 else (1 - weight) * known[below] + weight * known[below + 1]
    return volume


def _shifted(image: NDArray[np.float32], shift: Floats, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """One slice shifted by a fractional number of pixels (down, across), linearly, into a larger matrix."""
    whole = np.floor(shift + 1e-6).astype(int)
    part = np.clip(shift - whole, 0, 1)
    part[part < 1e-5] = 0
    found = np.full((shape[0] + 1, shape[1] + 1), PADDING_HU, np.float32)
    rows, columns = image.shape
    found[whole[0] : whole[0] + rows, whole[1] : whole[1] + columns] = np.maximum(image, PADDING_HU)
    for axis, share in enumerate(part):
        if share:
            before = np.roll(found, 1, axis)
            found = np.asarray((1 - share) * found + share * before, np.float32)
    return found[: shape[0], : shape[1]]
