"""The coarse grid of the lung finder, and morphology on it. Canonical axes (Z, Y, X)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diffseglung.io.plausibility import TISSUE_HU
from diffseglung.platform.out_of_core import slabs
from diffseglung.volume import Array, Shape, Volume

Mask = NDArray[np.bool_]
HU = NDArray[np.float32]
Spacing = tuple[float, float, float]
Box = tuple[slice, slice, slice]
SHELL_MM = 2.5
"""Sheets of tissue thinner than twice SHELL_MM (table, clothing) are not body."""
SLACK = 1 + 1e-5
"""Distances equal to a reach except for rounding are within it."""
LOW_HU, HIGH_HU = -1024.0, 1000.0
"""Clipped before averaging, so that padding outside the field of view and metal do not affect their neighbours."""


def clipped(hu: Array) -> Array:
    """HU clipped for averaging."""
    return np.asarray(np.clip(hu, np.float32(LOW_HU), np.float32(HIGH_HU), dtype=np.float32))


@dataclass(frozen=True)
class Coarse:
    """Block means of a scan. hu: (Z, Y, X) float32; factors: fine voxels per block along each axis.

    skipped: fine voxels before the first block. Blocks begin at multiples of their size from the scanner's origin, so
    that a crop or a border does not shift them.
    """

    hu: NDArray[np.float32]
    spacing_mm: Spacing
    factors: Shape
    skipped: Shape = (0, 0, 0)

    @classmethod
    def of(cls, ct: Volume, grid_mm: float, value: Callable[[Array], Array] = clipped) -> Coarse:
        """Average whole blocks of about `grid_mm`; a coarser axis is unchanged.

        value: applied to the voxels before averaging.
        """
        factors = [max(1, round(grid_mm / s)) for s in ct.spacing_mm]
        factors = [min(f, n) for f, n in zip(factors, ct.shape, strict=True)]
        places = np.floor(ct.first_mm / ct.spacing_mm + 0.3).astype(
            int
        )  # avoids ties at whole and half voxels, which are common
        skipped = [int(-p % f) if n >= 2 * f else 0 for p, f, n in zip(places, factors, ct.shape, strict=True)]
        kept = ct.array[tuple(slice(n, None) for n in skipped)]
        means = np.empty([n // f for n, f in zip(kept.shape, factors, strict=True)], np.float32)
        for planes in slabs(kept, step=factors[0]):
            part = value(kept[planes])
            for axis in (0, 1, 2):
                part = _mean_of_blocks(part, axis, factors[axis])
            means[planes.start // factors[0] :][: len(part)] = part
        z, y, x = (f * s for f, s in zip(factors, ct.spacing_mm, strict=True))
        return cls(means, (z, y, x), (factors[0], factors[1], factors[2]), (skipped[0], skipped[1], skipped[2]))

    def over(self, fine: Volume) -> Volume:
        """The block means as a volume at their place in the patient; fine: the scan."""
        affine, factors = fine.affine.copy(), np.asarray(self.factors)
        affine[:3, 3] += affine[:3, :3] @ (np.asarray(self.skipped) + (factors - 1) / 2)
        affine[:3, :3] *= factors
        return Volume(self.hu, affine)

    @property
    def scanned(self) -> Mask:
        """Where slices (Y, X) were reconstructed; the rest is padding."""
        return np.asarray((self.hu > LOW_HU + 0.5).any(0))

    @property
    def voxel_ml(self) -> float:
        """Volume of one block in millilitres."""
        return float(np.prod(self.spacing_mm)) / 1000.0

    def spread(self, mask: Array, shape: Shape, planes: slice = slice(None)) -> Array:
        """Block values repeated on `planes` of the fine grid of `shape`; voxels beyond the blocks take the nearest."""
        out = mask
        for axis, (factor, before, n) in enumerate(zip(self.factors, self.skipped, shape, strict=True)):
            if axis == 0 or factor > 1 or out.shape[axis] != n:
                fine = np.arange(n)[planes] if axis == 0 else np.arange(n)
                out = np.take(out, np.clip((fine - before) // factor, 0, out.shape[axis] - 1), axis=axis)
        return out


def _mean_of_blocks(values: NDArray[np.float32], axis: int, factor: int) -> NDArray[np.float32]:
    if factor == 1:
        return values.astype(np.float32, copy=False)
    blocks = values.shape[axis] // factor

    def part(first: int) -> NDArray[np.float32]:
        index = [slice(None)] * 3
        index[axis] = slice(first, blocks * factor, factor)
        return values[tuple(index)]

    total = part(0).astype(np.float32)
    for first in range(1, factor):
        total += part(first)
    total /= np.float32(factor)
    return total


def within(mask: Mask, reach_mm: float, spacing_mm: Spacing) -> Mask:
    """Voxels at most `reach_mm` from the mask: dilation by a ball.

    Exact squared distances, axis by axis (Saito and Toriwaki, Pattern Recognition 1994;27:1551), up to `reach_mm`:
    faster than a full distance map for balls of a few voxels.

    >>> mask = np.zeros((1, 1, 5), bool)
    >>> mask[0, 0, 0] = True
    >>> within(mask, 2.0, (1.0, 1.0, 1.0)).astype(int)
    array([[[1, 1, 1, 0, 0]]])
    """
    if reach_mm <= 0 or not mask.any():
        return mask
    pads = [int(reach_mm / s) + 1 for s in spacing_mm]
    box = padded(bounds(mask), pads, mask.shape)
    square = np.where(mask[box], np.float32(0), np.float32(np.inf))
    for axis, mm in enumerate(spacing_mm):
        nearest = square.copy()
        lines, best = np.moveaxis(square, axis, 0), np.moveaxis(nearest, axis, 0)
        for steps in range(1, min(int(reach_mm / mm * SLACK) + 1, len(lines))):
            far = np.float32((steps * mm) ** 2)
            np.minimum(best[steps:], lines[:-steps] + far, out=best[steps:])
            np.minimum(best[:-steps], lines[steps:] + far, out=best[:-steps])
        square = nearest
    near = np.zeros_like(mask)
    near[box] = square <= np.float32(reach_mm**2 * SLACK)
    return near


def shrink(mask: Mask, reach_mm: float, spacing_mm: Spacing) -> Mask:
    """Voxels farther than `reach_mm` from every voxel outside the mask; the faces of the array do not count."""
    if reach_mm <= 0 or mask.all() or not mask.any():
        return mask
    box = padded(bounds(mask), (1, 1, 1), mask.shape)
    core = np.zeros_like(mask)
    core[box] = ~within(~mask[box], reach_mm, spacing_mm)
    return core


def close(mask: Mask, reach_mm: float, spacing_mm: Spacing) -> Mask:
    """Closing by a ball of radius `reach_mm`, as if the array continued beyond its faces."""
    box = bounds(mask)
    pads = [int(np.ceil(reach_mm / s)) + 1 for s in spacing_mm]
    grown = within(np.pad(mask[box], [(p, p) for p in pads]), reach_mm, spacing_mm)
    inner = tuple(slice(p, -p) for p in pads)
    closed = mask.copy()
    closed[box] |= shrink(grown, reach_mm, spacing_mm)[inner]
    return closed


def bounds(mask: Mask) -> Box:
    """Slices of the bounding box of a mask that is not empty."""
    z, y, x = (np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
    return slice(z[0], z[-1] + 1), slice(y[0], y[-1] + 1), slice(x[0], x[-1] + 1)


def padded(box: Box, pads: Sequence[int], shape: tuple[int, ...]) -> Box:
    """The box widened by `pads` voxels on both sides of each axis, within an array of `shape`."""
    z, y, x = (slice(max(0, s.start - p), min(s.stop + p, n)) for s, p, n in zip(box, pads, shape, strict=True))
    return z, y, x


def fine_cross(spacing_mm: Spacing) -> Mask:
    """Face neighbours along axes whose voxels are at most 3 mm, or at most the finest if none are."""
    cross = np.asarray(ndimage.generate_binary_structure(3, 1), bool)
    fine = [spacing <= max(3.0, min(spacing_mm)) for spacing in spacing_mm]
    for axis in np.flatnonzero(~np.asarray(fine)):
        for end in (0, 2):
            index = [1, 1, 1]
            index[axis] = end
            cross[tuple(index)] = False
    return cross


def components(mask: Mask) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Face-connected components: labels from 1, and voxels per label (0 for index 0)."""
    labels = np.zeros(mask.shape, np.int32)
    if not mask.any():
        return labels, np.zeros(1, np.int64)
    box = bounds(mask)
    count = ndimage.label(mask[box], output=labels[box])
    return labels, np.bincount(labels[mask], minlength=count + 1)


def mean_and_variance(hu: HU, reach: list[int]) -> tuple[HU, HU]:
    """Mean and variance over a cube of `reach` voxels."""
    mean = ndimage.uniform_filter(hu, reach)
    return mean, np.maximum(ndimage.uniform_filter(hu**2, reach) - mean**2, 0)


def cube(mm: float, spacing_mm: Spacing) -> list[int]:
    """Voxels along each axis of a cube with edges of `mm`.

    >>> cube(9.0, (3.0, 1.5, 1.5))
    [3, 6, 6]
    """
    return [max(1, round(mm / spacing)) for spacing in spacing_mm]


def slice_hulls(mask: Mask) -> Mask:
    """Convex hull of the mask in every axial slice."""
    hulls = np.zeros_like(mask)
    for z in np.flatnonzero(mask.any(axis=(1, 2))):
        hulls[z] = _hull(mask[z])
    return hulls


def body_mask(coarse: Coarse) -> Mask:
    """The body: the largest solid of tissue, and the air that it encloses in each axial slice.

    Table, clothing and the air around, under and between them are outside; so is air connected to a slice's border
    through a gap wider than two voxels (the chest wall of thin people is not much thicker).
    """
    tissue = coarse.hu > TISSUE_HU
    labels, sizes = components(shrink(tissue, SHELL_MM, coarse.spacing_mm))
    if not sizes.any():
        return np.zeros_like(tissue)
    solid = within(labels == sizes.argmax(), SHELL_MM + 0.5 * max(coarse.spacing_mm[1:]), coarse.spacing_mm) & tissue
    cross = ndimage.generate_binary_structure(2, 1)[None]
    walls = np.asarray(ndimage.binary_dilation(solid, cross))
    outside = np.empty_like(solid)
    for z, plane in enumerate(walls):
        open_air, count = ndimage.label(~plane)
        rim = np.concatenate([open_air[0], open_air[-1], open_air[:, 0], open_air[:, -1]])
        reached = np.zeros(count + 1, bool)
        reached[rim] = True
        reached[0] = False
        outside[z] = reached[open_air]
    return ~np.asarray(ndimage.binary_dilation(outside, cross)) | solid


def _hull(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Convex hull of a slice (Y, X), from the first and last voxel of each row."""
    rows = np.flatnonzero(mask.any(axis=1))
    first = mask[rows].argmax(axis=1).astype(float)
    last = mask.shape[1] - 1 - mask[rows][:, ::-1].argmax(axis=1).astype(float)
    every = np.arange(rows[0], rows[-1] + 1)
    left = _lower_envelope(rows, first, every)
    right = -_lower_envelope(rows, -last, every)
    columns = np.arange(mask.shape[1])
    hull = np.zeros_like(mask)
    hull[every] = (columns >= left[:, None] - 1e-6) & (columns <= right[:, None] + 1e-6)
    return hull


def _lower_envelope(
    rows: NDArray[np.int64], values: NDArray[np.float64], every: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Largest convex function of the row at or below `values` (Andrew's monotone chain)."""
    chain: list[tuple[float, float]] = []
    for point in zip(rows.tolist(), values.tolist(), strict=True):
        while len(chain) > 1:
            (ay, ax), (by, bx) = chain[-2], chain[-1]
            if (by - ay) * (point[1] - ax) > (point[0] - ay) * (bx - ax):
                break
            chain.pop()
        chain.append(point)
    corners = np.asarray(chain)
    return np.asarray(np.interp(every, corners[:, 0], corners[:, 1]), np.float64)
