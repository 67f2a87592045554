"""Cut a grid into patches or overlapping tiles, choose those with lung, and blend results back onto the grid."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffseglung.platform.errors import InputError
from diffseglung.volume import Array, Shape

TRIES = 40
"""Draws for one patch before the fullest one is taken."""


def tile_starts(length: int, size: int, overlap: float) -> list[int]:
    """First voxels of tiles that cover one axis: evenly spread, the last flush with the end.

    >>> tile_starts(100, 40, 0.25)
    [0, 30, 60]
    """
    if length <= size:
        return [0]
    count = int(np.ceil((length - size) / max(size * (1 - overlap), 1.0))) + 1
    return [int(start) for start in np.unique(np.linspace(0, length - size, count).round())]


def tile_corners(shape: Shape, tile: Shape, overlap: float = 0.0) -> list[Shape]:
    """Lowest voxel (z, y, x) of every tile covering a grid of `shape`, in raster order.

    Neighbours share at least the fraction `overlap`. An axis shorter than the tile gets one tile at 0 that extends
    beyond the grid: `cut` fills the part outside, `blend` drops it.
    """
    z, y, x = (tile_starts(n, size, overlap) for n, size in zip(shape, tile, strict=True))
    return list(itertools.product(z, y, x))


def place(corner: Shape, size: Shape, shape: Sequence[int]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Slices of the part of a patch that lies on a grid of `shape`: in the grid, and in the patch."""
    low = [max(c, 0) for c in corner]
    high = [max(min(c + s, n), 0) for c, s, n in zip(corner, size, shape, strict=True)]
    on_grid = tuple(slice(a, max(a, b)) for a, b in zip(low, high, strict=True))
    within = tuple(slice(a - c, max(a, b) - c) for a, b, c in zip(low, high, corner, strict=True))
    return on_grid, within


def cut(array: Array, corner: Shape, size: Shape, fill: float = 0) -> Array:
    """The patch (..., z, y, x) of `size` at `corner` of (..., Z, Y, X); voxels beyond the grid are `fill`.

    >>> cut(np.arange(8).reshape(2, 2, 2), (1, 1, 0), (1, 1, 3), fill=-1)
    array([[[ 6,  7, -1]]])
    """
    on_grid, within = place(corner, size, array.shape[-3:])
    patch = np.full((*array.shape[:-3], *size), fill, array.dtype)
    patch[(..., *within)] = array[(..., *on_grid)]
    return patch


def lung_corners(corners: Iterable[Shape], tile: Shape, lungs: Array) -> list[Shape]:
    """The corners whose tile contains at least one lung voxel; lungs (Z, Y, X), non-zero inside."""
    return [corner for corner in corners if lungs[place(corner, tile, lungs.shape)[0]].any()]


def taper(size: Shape) -> NDArray[np.float32]:
    """Blending weights (z, y, x): a raised cosine, largest in the middle, never zero."""
    sides = [0.02 + np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in size]
    weights: NDArray[np.float32] = np.einsum("i,j,k->ijk", *sides).astype(np.float32)
    return weights


def blend(tiles: Iterable[tuple[Shape, Array]], shape: Shape) -> NDArray[np.float32]:
    """Mean of overlapping tiles, weighted by `taper`.

    tiles: pairs of a corner (z, y, x) and values (..., z, y, x); leading axes, if any, are channels.
    Returns (..., Z, Y, X); voxels without a tile are NaN.  Raises InputError where there are no tiles.
    """
    total: NDArray[np.float32] | None = None
    weight = np.zeros(shape, np.float32)
    for corner, values in tiles:
        z, y, x = values.shape[-3:]
        here = taper((z, y, x))
        if total is None:
            total = np.zeros((*values.shape[:-3], *shape), np.float32)
        on_grid, within = place(corner, (z, y, x), shape)
        total[(..., *on_grid)] += values[(..., *within)] * here[within]
        weight[on_grid] += here[within]
    if total is None:
        raise InputError("there are no tiles to blend", remedy="check that the lung mask is not empty")
    with np.errstate(invalid="ignore", divide="ignore"):
        total /= weight
    return total


def choose_corners(
    lungs: Array, size: Shape, *, count: int, min_lung_fraction: float, rng: np.random.Generator
) -> list[Shape]:
    """Corners of `count` random training patches.

    Each patch is centred on a random lung voxel, moved inside the grid, and kept if at least `min_lung_fraction` of it
    is lung; if none of `TRIES` draws is, the fullest is taken. On a grid smaller than the patch the corner is negative,
    so that the grid lies in the middle. lungs: (Z, Y, X), non-zero inside.  Raises InputError.
    """
    inside = np.flatnonzero(lungs)
    if len(inside) == 0:
        raise InputError("the lung mask is empty", remedy="give a mask with lung voxels, or let convert find the lungs")
    voxels = float(np.prod(size))
    chosen: list[Shape] = []
    for _ in range(count):
        best, most = (0, 0, 0), -1.0
        for index in rng.choice(inside, TRIES):
            centre = np.unravel_index(index, lungs.shape)
            corner = _inside(centre, size, lungs.shape)
            fraction = np.count_nonzero(lungs[place(corner, size, lungs.shape)[0]]) / voxels
            if fraction > most:
                best, most = corner, fraction
            if most >= min_lung_fraction:
                break
        chosen.append(best)
    return chosen


def _inside(centre: Sequence[np.intp], size: Shape, shape: Sequence[int]) -> Shape:
    """Corner of a patch around `centre`, moved into the grid; centred on an axis that is too short."""
    corner = [
        int(np.clip(c - s // 2, 0, n - s)) if n >= s else -((s - n) // 2)
        for c, s, n in zip(centre, size, shape, strict=True)
    ]
    return corner[0], corner[1], corner[2]
