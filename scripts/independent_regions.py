"""Location of lesions: the lobules of the lungs, and how a lesion spreads. Part of `independent_phantom.py`."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from independent_chest import Scene
from independent_lesions import Family
from independent_shapes import LOBULE_MM, Array, lattice, wobble
from numpy.typing import NDArray
from scipy.spatial import cKDTree


@dataclass(frozen=True)
class Lobules:
    """Centres (M, 3) mm, depth, side, position (height, back: -1 to 1), neighbours; `cell`: lobule on coarse grid."""

    centres: Array
    depth: Array
    side: NDArray[np.uint8]
    place: Array
    near: list[list[int]]
    cell: NDArray[np.int32]


def find_lobules(scene: Scene, rng: np.random.Generator) -> Lobules:
    """Cells with wavy borders that fill the lungs."""
    lung = scene.side > 0
    centres = lattice(rng, tuple(np.array(lung.shape) * scene.coarse), LOBULE_MM)
    at = np.round(centres / scene.coarse).astype(int)
    fit = ((at >= 0) & (at < lung.shape)).all(1)
    centres, at = centres[fit], at[fit]
    fit = lung[tuple(at.T)] & (scene.depth[tuple(at.T)] > 1)
    centres, at = centres[fit], at[fit]
    where = np.argwhere(lung)
    points = (where * scene.coarse).astype(np.float32)
    bent = points + 2.5 * np.stack([wobble(rng, [points[:, k] for k in range(3)], 20) for _ in range(3)], 1)
    cell = np.full(lung.shape, -1, np.int32)
    cell[tuple(where.T)] = cKDTree(centres).query(bent)[1]
    side, place = scene.side[tuple(at.T)], np.zeros((len(centres), 2), np.float32)
    for k in (1, 2):
        mine = centres[side == k][:, :2]
        if len(mine):
            low, high = mine.min(0), mine.max(0)
            place[side == k] = 2 * (mine - low) / np.maximum(high - low, 1) - 1
    near = cKDTree(centres).query_ball_point(centres, 1.5 * LOBULE_MM)
    near = [[j for j in row if j != i and side[i] == side[j]] for i, row in enumerate(near)]
    return Lobules(centres, scene.depth[tuple(at.T)], side, place, near, cell)


def preference(found: Lobules, family: Family) -> Array:
    """Preference of a family for each lobule."""
    head, rind, back = family.zone
    shallow = 1 - 2 * np.clip(found.depth / 30, 0, 1)
    score = head * found.place[:, 0] + rind * shallow + back * found.place[:, 1]
    if rind > 1:
        score = np.where(found.depth < 15, score, -4)
    return score.astype(np.float32)


def grow_region(
    found: Lobules, family: Family, taken: NDArray[np.int8], count: int, rng: np.random.Generator
) -> list[int]:
    """Lobules over which a lesion spreads, preferably beside another lesion; [] if there is no room."""
    liking = preference(found, family)
    free = taken == 0
    if not free.any():
        return []
    beside = np.array([any(taken[j] for j in row) for row in found.near]) & free
    pool = beside if beside.any() and rng.random() < 0.6 else free
    appeal = np.where(pool, liking + 0.7 * rng.gumbel(size=len(liking)), -np.inf)
    region: list[int] = []
    queue = [(0.0, int(appeal.argmax()))]
    seen = {queue[0][1]}
    while queue and len(region) < count:
        k = heapq.heappop(queue)[1]
        region.append(k)
        for j in found.near[k]:
            if j not in seen and free[j]:
                seen.add(j)
                far = float(np.linalg.norm(found.centres[j] - found.centres[region[0]])) / LOBULE_MM
                heapq.heappush(queue, (far + 0.8 * rng.exponential() - 1.2 * float(liking[j]), j))
    return region
