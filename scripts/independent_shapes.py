"""Points, cells, walls and tubes from which chests and lesions are built. Part of `independent_phantom.py`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree

Array = NDArray[np.float32]
LOBULE_MM = 14.0
"""A secondary pulmonary lobule measures 10 to 25 mm (Hansell et al. 2008)."""


def linear(n: int, at: NDArray[np.float64]) -> sparse.csr_matrix:
    """Weights (len(at), n) of linear interpolation at indices `at`, clamped at the ends."""
    at = np.clip(at, 0, n - 1)
    low = np.minimum(at.astype(int), n - 2)
    part = at - low
    rows = np.arange(len(at))
    cells = (np.concatenate([rows, rows]), np.concatenate([low, low + 1]))
    return sparse.csr_matrix((np.concatenate([1 - part, part]).astype(np.float32), cells), (len(at), n))


def separable(array: Array, wz: sparse.csr_matrix, wy: sparse.csr_matrix, wx: sparse.csr_matrix) -> Array:
    """`array` multiplied by a matrix along each axis."""
    first = wz @ array.reshape(array.shape[0], -1)
    out = np.empty((wz.shape[0], wy.shape[0], wx.shape[0]), np.float32)
    for z, plane in enumerate(first.reshape(-1, *array.shape[1:])):
        out[z] = (wx @ np.ascontiguousarray((wy @ plane).T)).T
    return out


def wobble(rng: np.random.Generator, points: list[Array], wavelength: float, waves: int = 6) -> Array:
    """About -1 to 1: plane waves of different directions and wavelengths; `points` are z, y, x that broadcast."""
    total: Array = np.float32(0) * (points[0] + points[1] + points[2])
    for _ in range(waves):
        way = rng.normal(size=3)
        way *= 2 * np.pi / np.linalg.norm(way) / (wavelength * rng.uniform(0.6, 1.6))
        turn = sum(np.float32(w) * p for w, p in zip(way, points, strict=True))
        total += np.sin(turn + np.float32(rng.uniform(0, 6.28)))
    return total / np.float32(np.sqrt(2 * waves))


def lattice(rng: np.random.Generator, shape: tuple[int, ...], pitch: float, jitter: float = 0.28) -> Array:
    """Points of a body-centred lattice over a box (mm), each displaced at random: lobules are similar but irregular."""
    axes = np.meshgrid(*(np.arange(0, n, pitch * 1.26) for n in shape), indexing="ij")
    nodes = np.stack(axes, -1).reshape(-1, 3)
    points = np.concatenate([nodes, nodes + pitch * 0.63])
    return (points + rng.normal(0, jitter * pitch, points.shape)).astype(np.float32)


def filled(hu: Array, level: Array, target: Array | float, share: Array) -> Array:
    """Replace air until lung without vessels reaches `target`; vessels and walls hold no air and stay."""
    k = (60 - target) / (60 - level)
    air = np.maximum(60 - hu, 0)
    return hu + share * air * (1 - np.clip(k, 0, 1.2))


def emptied(hu: Array, level: Array, target: Array | float, share: Array, kept: float = 1.0) -> Array:
    """Lower lung without vessels to `target`; vessels are spared, wholly or in part (`kept`)."""
    vessel = kept * np.clip((hu - level - 130) / 150, 0, 1)
    return hu + share * (1 - vessel) * np.minimum(target - hu, 0)


def laid(hu: Array, target: Array | float, cover: Array) -> Array:
    """Overlay dense tissue; no voxel becomes darker."""
    return hu + cover * np.maximum(target - hu, 0)


def sheet(distance: Array, width: Array | float, step: float) -> Array:
    """Fraction of a voxel filled by a wall of this width."""
    return np.clip(0.5 + (width / 2 - np.abs(distance)) / step, 0, 1) * np.minimum(width / step, 1)


def spaced(rng: np.random.Generator, xyz: Array, gap: float, weight: Array | None = None) -> Array:
    """Points of `xyz` at least `gap` apart (hard core), by dart throwing; fewer where `weight` is small."""
    if not len(xyz):
        return np.zeros((0, 3), np.float32)
    order = rng.permutation(len(xyz))[: int(min(len(xyz), 6000))]
    if weight is not None:
        order = order[rng.random(len(order)) < weight[order]]
    darts = xyz[order]
    if not len(darts):
        return darts
    tree, free = cKDTree(darts), np.ones(len(darts), bool)
    near = tree.query_ball_point(darts, gap)
    kept = []
    for k in range(len(darts)):
        if free[k]:
            kept.append(k)
            free[near[k]] = False
    return darts[kept]


def cells(xyz: Array, seeds: Array, stretch: tuple[float, float, float] = (1, 1, 1)) -> tuple[Array, Array, NDArray]:
    """Distances to the nearest seed and to the plane between the two nearest; indices of both (Voronoi cells)."""
    s = np.asarray(stretch, np.float32)
    d, i = cKDTree(seeds * s).query(xyz * s, k=2)
    between = np.linalg.norm((seeds * s)[i[:, 0]] - (seeds * s)[i[:, 1]], axis=1)
    plane = (d[:, 1] ** 2 - d[:, 0] ** 2) / (2 * np.maximum(between, 1e-3))
    return d[:, 0].astype(np.float32), plane.astype(np.float32), i


def drawn_pair(rng: np.random.Generator, pair: NDArray, n: int) -> Array:
    """A number from 0 to 1 for each wall between two cells, equal from both sides."""
    low, high = pair.min(1).astype(np.int64), pair.max(1).astype(np.int64)
    table = rng.random(4096).astype(np.float32)
    return table[(low * 2654435761 + high * 40503 + n) % 4096]


def strand(rng: np.random.Generator, start: Array, way: Array, length: float, bend: float = 0.18) -> Array:
    """A winding path of points 0.7 mm apart."""
    way = way / max(float(np.linalg.norm(way)), 1e-6)
    course = [np.asarray(start, float)]
    turn = rng.normal(size=3)
    for _ in range(max(int(length / 0.7), 2)):
        turn = 0.85 * turn + 0.5 * rng.normal(size=3)
        way = way + bend * 0.2 * turn
        way = way / np.linalg.norm(way)
        course.append(course[-1] + 0.7 * way)
    return np.array(course)


def branching(rng: np.random.Generator, start: Array, way: Array, length: float, radius: float, times: int) -> Array:
    """A tree that forks `times` times: rows of z, y, x, radius."""
    course = strand(rng, start, way, length)
    rows = [np.column_stack([course, np.linspace(radius, 0.85 * radius, len(course))])]
    if times:
        ahead = course[-1] - course[-3]
        ahead = ahead / np.linalg.norm(ahead)
        across = np.cross(ahead, rng.normal(size=3))
        across /= max(np.linalg.norm(across), 1e-6)
        for sign in (-1, 1):
            angle = rng.uniform(0.3, 0.75)
            aim = np.cos(angle) * ahead + sign * np.sin(angle) * across
            rows.append(branching(rng, course[-1], aim, length * rng.uniform(0.65, 0.9), 0.8 * radius, times - 1))
    return np.concatenate(rows)


def tube(xyz: Array, course: Array) -> Array:
    """Signed distance to the surface of tubes: negative in the lumen."""
    if not len(course):
        return np.full(len(xyz), 1e3, np.float32)
    d, i = cKDTree(course[:, :3]).query(xyz, distance_upper_bound=30)
    radius = np.append(course[:, 3], 0)[i]
    return np.where(np.isfinite(d), d - radius, 1e3).astype(np.float32)


@dataclass(frozen=True)
class Patch:
    """The N lung voxels in and around a region.

    xyz: (N, 3) mm (z, y, x).  hu: current HU.  level: HU of lung without vessels.  inside: mm within the region.
    depth: mm below the pleura.  lobules: (M, 3) centres in and around the region.  hilum: (3,).
    bronchi: (K, 4) centreline and radius.
    """

    xyz: Array
    hu: Array
    level: Array
    inside: Array
    depth: Array
    lobules: Array
    hilum: Array
    bronchi: Array
    step: float

    @property
    def points(self) -> list[Array]:
        """z, y, x."""
        return [self.xyz[:, k] for k in range(3)]

    def edge(self, width: float) -> Array:
        """1 in the region, 0 outside, half at its border."""
        return np.clip(0.5 + self.inside / width, 0, 1)


def anchor(p: Patch, rng: np.random.Generator, deep: float) -> Array:
    """A voxel well inside the region."""
    fit = np.flatnonzero((p.inside > 0.5 * p.inside.max()) & (p.depth > min(deep, 0.8 * p.depth.max())))
    fit = fit if len(fit) else np.array([int(p.inside.argmax())])
    return p.xyz[rng.choice(fit)]
