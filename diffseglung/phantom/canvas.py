"""A piece of lung to draw into, and the elements of textures: random fields, cells, sheets, tubes, spheres."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from diffseglung.phantom.record import ChestParts
from diffseglung.phantom.region import FLUID_HU, Mask
from diffseglung.phantom.texture import Field, balls, sheet, smooth_noise
from diffseglung.volume import Shape

GAS_HU = -1000.0
UNKNOWN = 255
"""Truth of voxels that no label describes."""
OFF = np.float32(-1e3)
"""Signed distance outside the lung, in mm."""
TILE, CELL = 96, 16
"""Voxels of a periodic tile of Voronoi cells, and of one cell."""
TILES = 3


def clipped(values: Field, low: float = 0.0, high: float = 1.0) -> Field:
    """Values clipped to [low, high]."""
    return np.asarray(np.clip(values, low, high), np.float32)


@dataclass(eq=False, kw_only=True)
class Canvas(ChestParts):
    """A piece of a chest on an isotropic grid, and the random generator to draw with."""

    rng: np.random.Generator

    @cached_property
    def lung(self) -> Mask:
        """Lung mask."""
        return np.asarray(self.lungs > 0)

    @property
    def shape(self) -> Shape:
        """Voxels along each axis."""
        z, y, x = self.lungs.shape
        return z, y, x

    @property
    def voxel(self) -> float:
        """Edge of a voxel in mm."""
        return self.spacing_mm[0]

    def between(self, low: float, high: float) -> float:
        """A uniformly distributed number."""
        return float(self.rng.uniform(low, high))

    def scaled(self, low: float, high: float) -> float:
        """A log-uniformly distributed number."""
        return float(np.exp(self.rng.uniform(np.log(low), np.log(high))))

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return bool(self.rng.random() < probability)

    def noise(self, scale_mm: float) -> Field:
        """Random field of mean 0 and standard deviation 1, correlated over `scale_mm`."""
        return smooth_noise(self.rng, self.shape, self.spacing_mm, max(scale_mm, 1.1 * self.voxel))

    def grain(self, amount: float) -> Field:
        """Random field around 1 that varies at two scales."""
        fine, coarse = self.noise(self.between(2.5, 5)), self.noise(self.between(6, 20))
        return clipped(1 + np.float32(amount) * (fine + coarse), 0.3, 1.8)

    def cells(self, size_mm: float) -> tuple[NDArray[np.int32], Field]:
        """Randomly rotated and stretched Voronoi cells of about `size_mm`: number of the cell, mm to its wall."""
        number, wall = _tile(int(self.rng.integers(TILES)))
        turn, _ = np.linalg.qr(self.rng.standard_normal((3, 3)))
        squeeze = np.exp(self.rng.normal(0, 0.15, 3))[:, None]
        matrix = (squeeze * turn) * (self.voxel * CELL / size_mm)
        axes = [np.arange(n, dtype=np.float64) for n in self.shape]
        start = self.rng.uniform(0, TILE, 3)
        places = [
            (row[0] * axes[0])[:, None, None] + (row[1] * axes[1])[:, None] + row[2] * axes[2] + offset
            for row, offset in zip(matrix, start, strict=True)
        ]
        whole = [np.floor(p).astype(np.int64) % TILE for p in places]
        far = ndimage.map_coordinates(wall, [p % TILE for p in places], order=1, mode="grid-wrap")
        return number[tuple(whole)], (far * np.float32(size_mm / CELL)).astype(np.float32)

    def walls(self, size_mm: float, thickness_mm: float) -> Field:
        """Share of each voxel that is wall of irregular cells."""
        _, wall = self.cells(size_mm)
        return sheet(wall + np.float32(0.04 * size_mm) * self.noise(2.5), thickness_mm, self.voxel)

    def ridges(self, size_mm: float, thickness_mm: float) -> Field:
        """Share of each voxel that is a curved sheet: the zero set of a random field."""
        return sheet(self.noise(size_mm) * np.float32(size_mm / 1.3), thickness_mm, self.voxel)

    def tubes(self, apart_mm: float, radius_mm: float) -> Field:
        """Share of each voxel that is a curved tube: the common zero set of two random fields."""
        squares = self.noise(apart_mm) ** 2 + self.noise(apart_mm) ** 2
        distance = np.sqrt(squares) * np.float32(apart_mm / 1.3)
        return clipped(0.5 + (np.float32(radius_mm) - distance) / np.float32(self.voxel))

    def spheres(self, where: Mask, count: int, radius_mm: tuple[float, float]) -> tuple[Field, Field]:
        """Share of each voxel inside spheres scattered over `where`, and signed mm to the nearest (inside positive)."""
        sites = np.argwhere(where)
        if not len(sites):
            return np.zeros(self.shape, np.float32), np.full(self.shape, OFF)
        middles = sites[self.rng.integers(len(sites), size=count)] + self.rng.uniform(-0.5, 0.5, (count, 3))
        radii = self.rng.uniform(*radius_mm, count)
        share, signed = balls(middles * self.voxel, radii, self.shape, self.spacing_mm)
        return share * self.lung, -signed

    def weight(self, signed: Field, border_mm: float) -> Field:
        """0 outside to 1 inside over about `border_mm`; zero outside the lung."""
        return clipped(0.5 + signed / np.float32(max(border_mm, 0.3))) * self.lung

    def fill(self, share: Field) -> None:
        """Replace a share of the lung by fluid or cells."""
        self.parenchyma += np.clip(share, 0, 0.99) * (np.float32(FLUID_HU) - self.parenchyma)

    def empty(self, lost: Field, pruned: float) -> None:
        """Remove a share of the tissue, and `pruned` times that share of the vessels."""
        self.parenchyma += lost * (np.float32(GAS_HU) - self.parenchyma)
        self.vessels *= 1 - np.float32(pruned) * lost

    def label(self, where: Mask, name: int) -> None:
        """Write truth inside the lung."""
        self.truth[where & self.lung] = name


@cache
def _tile(index: int) -> tuple[NDArray[np.int32], Field]:
    """A periodic cube of Voronoi cells: number of each voxel's cell, voxels to its wall."""
    rng, count = np.random.default_rng([4711, index]), TILE // CELL
    lattice = np.stack(np.meshgrid(*[np.arange(count)] * 3, indexing="ij"), -1).reshape(-1, 3)
    seeds = (lattice + 0.5 + rng.uniform(-0.48, 0.48, lattice.shape)) * CELL
    points = np.stack(np.meshgrid(*[np.arange(TILE)] * 3, indexing="ij"), -1).reshape(-1, 3)
    distance, nearest = cKDTree(seeds, boxsize=TILE).query(points, k=2)
    apart = seeds[nearest[:, 0]] - seeds[nearest[:, 1]]
    apart -= TILE * np.rint(apart / TILE)
    wall = (distance[:, 1] ** 2 - distance[:, 0] ** 2) / (2 * np.linalg.norm(apart, axis=1))
    cube = (TILE,) * 3
    return nearest[:, 0].reshape(cube).astype(np.int32), wall.reshape(cube).astype(np.float32)
