"""Branching trees that fill a lung: arteries, veins and bronchi.

The set of end points is split in two again and again (like subdivision models of airways, Kitaoka et al. 1999); radii
follow Murray's law (the cubes of the radii of the branches add up to that of the parent).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
MURRAY = 3.0


@dataclass(frozen=True, eq=False)
class Tree:
    """N straight tubes.  start, end: (N, 3) points (z, y, x) in mm.  radius: mm.  ends: end points downstream."""

    start: Points
    end: Points
    radius: Points
    ends: NDArray[np.int64]


def grow(rng: np.random.Generator, root: Points, targets: Points, *, tip_mm: float, reach: float = 0.36) -> Tree:
    """A tree from `root` (3,) to every target (N, 3); `tip_mm` is the radius of the last branches."""
    starts, ends, counts = [], [], []
    stack = [(np.asarray(root, np.float64), targets)]
    while stack:
        node, group = stack.pop()
        if len(group) == 1:
            starts.append(node)
            ends.append(group[0])
            counts.append(1)
            continue
        centre = group.mean(0)
        offset = group - centre
        share = reach * (0.8 + 0.4 * rng.random())
        fork = node + share * (centre - node) + 0.03 * np.linalg.norm(centre - node) * rng.standard_normal(3)
        starts.append(node)
        ends.append(fork)
        counts.append(len(group))
        axis = np.linalg.eigh(offset.T @ offset)[1][:, 2] if len(group) > 2 else group[1] - group[0]
        along = offset @ axis
        order = np.argsort(along, kind="stable")
        cut = int(np.clip(round(len(group) * rng.uniform(0.3, 0.7)), 1, len(group) - 1))
        stack.append((fork, group[order[:cut]]))
        stack.append((fork, group[order[cut:]]))
    number = np.asarray(counts)
    return Tree(np.asarray(starts), np.asarray(ends), tip_mm * number ** (1 / MURRAY), number)


def beside(tree: Tree, rng: np.random.Generator, *, least_ends: int, ratio: float) -> Tree:
    """Bronchi: copies of the larger branches, shifted sideways by both radii."""
    keep = tree.ends >= least_ends
    radius = tree.radius[keep] * ratio
    direction = rng.standard_normal(3)
    direction /= np.linalg.norm(direction)
    # shift by fork, not by branch, so that consecutive branches stay connected
    shift = {tuple(point): 0.0 for point in np.vstack([tree.start[keep], tree.end[keep]])}
    for point, r in zip(np.vstack([tree.start[keep], tree.end[keep]]), np.tile(radius, 2), strict=True):
        shift[tuple(point)] = max(shift[tuple(point)], r * (1 + 1 / ratio) + 0.8)
    start = np.array([p + direction * shift[tuple(p)] for p in tree.start[keep]])
    end = np.array([p + direction * shift[tuple(p)] for p in tree.end[keep]])
    return Tree(start, end, radius, tree.ends[keep])


def draw_tubes(
    share: NDArray[np.float32], start: Points, end: Points, radius: Points, spacing_mm: tuple[float, float, float]
) -> None:
    """Add tubes to `share` (Z, Y, X), the covered part of each voxel, in place.

    Tubes thinner than a voxel are splatted with their exact volume, so that partial volume is correct at any spacing.
    """
    voxel = float(np.mean(spacing_mm))
    thin = radius < 0.75 * voxel
    _splat(share, start[thin], end[thin], radius[thin], spacing_mm)
    for a, b, r in zip(start[~thin], end[~thin], radius[~thin], strict=True):
        _thick(share, a, b, float(r), spacing_mm)


def _splat(
    share: NDArray[np.float32], start: Points, end: Points, radius: Points, spacing_mm: tuple[float, float, float]
) -> None:
    """Thin tubes: the volume of half-voxel pieces is spread over the eight nearest voxels."""
    step = np.asarray(spacing_mm)
    length = np.linalg.norm(end - start, axis=1)
    pieces = np.maximum(np.ceil(length / (0.5 * step.min())).astype(int), 1)
    index = np.repeat(np.arange(len(pieces)), pieces)
    place = np.arange(len(index)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    t = (place + 0.5) / pieces[index]
    at = (start[index] + t[:, None] * (end - start)[index]) / step
    amount = np.pi * radius[index] ** 2 * (length / pieces)[index] / step.prod()
    low = np.floor(at).astype(int)
    inside = ((low >= 0) & (low < np.asarray(share.shape) - 1)).all(1)
    low, f, amount = low[inside], (at - low)[inside] if len(at) else at, amount[inside]
    flat = share.reshape(-1)
    strides = np.array([share.shape[1] * share.shape[2], share.shape[2], 1])
    for corner in np.ndindex(2, 2, 2):
        c = np.asarray(corner)
        weight = np.where(c, f, 1 - f).prod(1) * amount
        np.add.at(flat, (low + c) @ strides, weight.astype(np.float32))
    np.minimum(share, 1, out=share)


def _thick(share: NDArray[np.float32], a: Points, b: Points, r: float, spacing_mm: tuple[float, float, float]) -> None:
    """One tube with round ends, antialiased by distance."""
    step = np.asarray(spacing_mm)
    low = np.maximum(np.floor((np.minimum(a, b) - r) / step).astype(int) - 1, 0)
    high = np.minimum(np.ceil((np.maximum(a, b) + r) / step).astype(int) + 2, share.shape)
    if (high <= low).any():
        return
    box = tuple(slice(int(p), int(q)) for p, q in zip(low, high, strict=True))
    z, y, x = (np.arange(p, q) * s - c for p, q, s, c in zip(low, high, step, a, strict=True))
    line = b - a
    square = max(float(line @ line), 1e-9)
    z, y, x = z[:, None, None], y[None, :, None], x[None, None, :]
    t = np.clip((z * line[0] + y * line[1] + x * line[2]) / square, 0, 1)
    d = np.sqrt((z - t * line[0]) ** 2 + (y - t * line[1]) ** 2 + (x - t * line[2]) ** 2)
    np.maximum(share[box], np.clip(0.5 + (r - d) / float(step.mean()), 0, 1), out=share[box], casting="unsafe")


def scatter(
    rng: np.random.Generator, where: NDArray[np.bool_], spacing_mm: tuple[float, float, float], n: int
) -> Points:
    """`n` random points (z, y, x) in mm inside a mask."""
    flat = np.flatnonzero(where)
    chosen = flat[rng.integers(0, len(flat), n)]
    points = np.stack(np.unravel_index(chosen, where.shape), 1) + rng.uniform(-0.5, 0.5, (n, 3))
    return np.asarray(points * np.asarray(spacing_mm), np.float64)
