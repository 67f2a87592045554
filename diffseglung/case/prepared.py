"""A scan prepared for the pipeline: canonical axes, cropped to the lungs, on the isotropic model grid, aligned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from diffseglung.case.alignment import HealthyLevel, air_level, align, healthy_level, lung_levels
from diffseglung.case.resample import coarsened, lattice
from diffseglung.io.plausibility import cross_sections, occupied
from diffseglung.platform.errors import InputError
from diffseglung.platform.runtime import started
from diffseglung.volume import Array, Reorientation, Shape, Volume

MARGIN_MM = 12.0
MINIMUM_VOXELS = 2000
STEP = 12
"""The model grid begins at a multiple of this many voxels, a multiple of every stride of positions."""


@dataclass(frozen=True, eq=False)
class PreparedScan:
    """hu, aligned: (Z, Y, X) float32 on the model grid;  lungs: boolean;  level: the scan's healthy level.

    lung_levels: those of the right and the left lung if each has its own; `aligned` then uses them.
    low: first canonical voxel of the crop;  window: the crop on the scan's canonical grid;  grid: the model grid.
    """

    reorientation: Reorientation
    low: Shape
    window: Volume
    grid: Volume
    lungs: NDArray[np.bool_]
    level: HealthyLevel
    lung_levels: tuple[HealthyLevel, HealthyLevel] | None
    aligned: NDArray[np.float32]
    spacing_mm: float

    @property
    def hu(self) -> NDArray[np.float32]:
        """HU on the model grid, (Z, Y, X)."""
        return self.grid.array


def lung_box(
    areas: list[NDArray[np.int64]], spacing_mm: tuple[float, float, float], margin_mm: float = MARGIN_MM,
    limits: Sequence[slice] | None = None,
) -> tuple[Shape, Shape]:  # fmt: skip
    """Lowest and one-past-highest index of lungs with these cross-sections, widened by a margin.

    limits: box that bounds the margin (default: the scan).
    """
    low, high = [], []
    for area, mm, limit in zip(areas, spacing_mm, limits or [slice(0, len(a)) for a in areas], strict=True):
        hits, margin = np.flatnonzero(area), round(margin_mm / mm)
        low.append(min(int(hits[0]), max(int(hits[0]) - margin, limit.start)))
        high.append(max(int(hits[-1]) + 1, min(int(hits[-1]) + 1 + margin, limit.stop)))
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])


def prepare_scan(ct: Volume, lungs: Volume, spacing_mm: float, *, step: int = STEP) -> PreparedScan:
    """Bring a scan and its lungs (non-zero inside) onto the model grid, which begins at a multiple of `step` voxels.

    Raises InputError if the lungs have too few voxels.
    """
    reorientation = Reorientation.of(ct)
    whole, mask = reorientation.apply(ct), reorientation.apply(lungs)
    areas = cross_sections(mask.array)
    if not areas[0].any():
        raise InputError("the lung mask is empty", remedy="check the mask, or omit it to find the lungs automatically")
    low, high = lung_box(areas, whole.spacing_mm, limits=occupied(whole))
    window = whole.crop(low, high)
    places = lattice(window, spacing_mm, step)
    inside = started(lambda: coarsened(mask.crop(low, high), places, lambda part: part > 0))
    right = started(lambda: coarsened(mask.crop(low, high), places, lambda part: part == 1))
    grid, kept = coarsened(window, places), inside().array >= 0.5
    if kept.sum() < MINIMUM_VOXELS:
        litres = float(kept.sum()) * grid.voxel_ml / 1000
        raise InputError(
            f"the lung mask has only {litres:.3f} litres", remedy="check that the mask covers the lungs of this scan"
        )
    level = replace(healthy_level(grid.array, kept, spacing_mm), air_hu=air_level(ct))
    aligned = align(grid.array, level, spacing_mm)
    sides = np.where(right().array >= 0.5, 1, 2) * kept
    own = lung_levels(grid.array, sides, spacing_mm)
    for side, lung in enumerate(own or (), start=1):
        here = sides == side
        aligned[here] = align(grid.array, replace(lung, air_hu=level.air_hu), spacing_mm)[here]
    return PreparedScan(reorientation, low, window, grid, kept, level, own, aligned, spacing_mm)


def axis_weights(count: int, origin_mm: float, spacing_mm: float, grid_mm: float, length: int) -> tuple[Array, Array]:
    """Linear interpolation along an axis: for `count` window voxels, lower grid index and weight of the next."""
    place = np.clip((np.arange(count) * spacing_mm - origin_mm) / grid_mm, 0, length - 1)
    lower = np.minimum(place.astype(np.int64), max(length - 2, 0))
    return lower, (place - lower).astype(np.float32)


def onto_window(prepared: PreparedScan, values: NDArray[np.float32], planes: slice) -> NDArray[np.float32]:
    """Channels (C, z, y, x) of the model grid interpolated linearly onto window slices: (C, planes, Y, X)."""
    directions = prepared.window.affine[:3, :3] / np.array(prepared.window.spacing_mm)
    offset = np.linalg.solve(directions, prepared.grid.affine[:3, 3] - prepared.window.affine[:3, 3])
    out = values
    for axis in range(3):
        lower, upper_weight = axis_weights(
            prepared.window.shape[axis], offset[axis], prepared.window.spacing_mm[axis], prepared.grid.spacing_mm[axis],
            prepared.grid.shape[axis],
        )  # fmt: skip
        if axis == 0:
            lower, upper_weight = lower[planes], upper_weight[planes]
        upper = np.minimum(lower + 1, prepared.grid.shape[axis] - 1)
        shape = [1, 1, 1, 1]
        shape[axis + 1] = -1
        w = upper_weight.reshape(shape)
        out = np.take(out, lower, axis + 1) * (1 - w) + np.take(out, upper, axis + 1) * w
    return out
