"""Random fields, cell patterns, sheets and balls on a grid; lengths in mm."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from diffseglung.volume import Shape

Field = NDArray[np.float32]
Spacing = tuple[float, float, float]


class SmoothNoise:
    """A random field of mean 0 and standard deviation about 1, correlated over about `scale_mm`, evaluated by slabs.

    White noise on a lattice of `scale_mm`, interpolated by cubic B-splines (mean square weight per axis 0.4794).
    """

    def __init__(self, rng: np.random.Generator, shape: Shape, spacing_mm: Spacing, scale_mm: float) -> None:
        sizes = [int(np.ceil(n * s / scale_mm)) + 4 for n, s in zip(shape, spacing_mm, strict=True)]
        self.lattice = rng.standard_normal(sizes, np.float32) * np.float32(0.4794**-1.5)
        self.blends = [_splines(n, s / scale_mm, size) for n, s, size in zip(shape, spacing_mm, sizes, strict=True)]

    def slab(self, first: int, last: int) -> Field:
        """Planes first <= z < last of the field."""
        field = np.tensordot(self.blends[0][first:last], self.lattice, axes=(1, 0))
        field = np.matmul(self.blends[1], field)
        return np.asarray(np.matmul(field, self.blends[2].T), np.float32)


def _splines(count: int, step: float, size: int) -> Field:
    """Weights (count, size) of the lattice points, for points that are `step` lattice spacings apart."""
    at = np.arange(count) * step + 1.0
    low = np.minimum(np.floor(at).astype(int), size - 3)
    t = at - low
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]) / 6
    matrix = np.zeros((count, size), np.float32)
    for k in range(4):
        matrix[np.arange(count), low - 1 + k] = weights[k]
    return matrix


def smooth_noise(rng: np.random.Generator, shape: Shape, spacing_mm: Spacing, scale_mm: float) -> Field:
    """Field (Z, Y, X) of mean 0 and standard deviation about 1, correlated over about `scale_mm`."""
    return SmoothNoise(rng, shape, spacing_mm, scale_mm).slab(0, shape[0])


def cells(
    rng: np.random.Generator, where: NDArray[np.bool_], spacing_mm: Spacing, *, size_mm: float
) -> tuple[NDArray[np.int32], Field]:
    """Voronoi cells of about `size_mm` in a mask: number of each voxel's cell (-1 outside), mm to the cell wall."""
    number = np.full(where.shape, -1, np.int32)
    wall = np.full(where.shape, 1e3, np.float32)
    points = np.argwhere(where) * np.asarray(spacing_mm)
    if len(points) == 0:
        return number, wall
    low, high = points.min(0) - size_mm, points.max(0) + size_mm
    lattice = np.stack(
        np.meshgrid(*[np.arange(a, b, size_mm) for a, b in zip(low, high, strict=True)], indexing="ij"), -1
    )
    seeds = lattice.reshape(-1, 3) + rng.uniform(-0.45, 0.45, (lattice.size // 3, 3)) * size_mm
    distance, index = cKDTree(seeds).query(points, k=2)
    a, b = seeds[index[:, 0]], seeds[index[:, 1]]
    gap = np.linalg.norm(a - b, axis=1)
    number[where] = index[:, 0]
    wall[where] = (distance[:, 1] ** 2 - distance[:, 0] ** 2) / (2 * gap)
    return number, wall


def sheet(distance_mm: Field, thickness_mm: float, voxel_mm: float) -> Field:
    """Share of each voxel covered by a sheet, from the distance of the voxel to the middle of the sheet."""
    share = np.zeros(distance_mm.shape, np.float32)
    h, t = voxel_mm / 2, thickness_mm / 2
    near = np.flatnonzero(np.abs(distance_mm) < h + t)
    d = np.abs(distance_mm.reshape(-1)[near])
    share.reshape(-1)[near] = (np.minimum(d + h, t) - np.maximum(d - h, -t)) / voxel_mm
    return share


def balls(
    centres_mm: NDArray[np.float64], radii_mm: NDArray[np.float64], shape: Shape, spacing_mm: Spacing
) -> tuple[Field, Field]:
    """Share of each voxel inside the balls, and signed mm to the nearest surface (negative inside)."""
    share = np.zeros(shape, np.float32)
    signed = np.full(shape, 1e3, np.float32)
    step = np.asarray(spacing_mm)
    soft = float(step.mean())
    for centre, radius in zip(centres_mm, radii_mm, strict=True):
        reach = radius + 3.0
        low = np.maximum(np.floor((centre - reach) / step).astype(int), 0)
        high = np.minimum(np.ceil((centre + reach) / step).astype(int) + 1, shape)
        if (high <= low).any():
            continue
        box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        axes = [(np.arange(a, b) * s - c) ** 2 for a, b, s, c in zip(low, high, step, centre, strict=True)]
        d = np.sqrt(axes[0][:, None, None] + axes[1][None, :, None] + axes[2][None, None, :]) - radius
        np.minimum(signed[box], d, out=signed[box], casting="unsafe")
        np.maximum(share[box], np.clip(0.5 - d / soft, 0, 1), out=share[box], casting="unsafe")
    return share, signed
