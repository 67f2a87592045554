"""Random chests that vary more than patients do, for training in `train_lung_finder.py`.

A visit takes one chest on a grid of 3 mm, transforms it onto a grid of 6 mm, and changes its lungs (filled, drained,
collapsed, resected), its body (breasts, arms, bowel gas, contrast medium), its surroundings (couch, gown, blanket) and
the scanner. The lungs are known throughout. Everything is random; no pathology label is read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from diffseglung.lungs.anatomy import AIR_HU, BODY, CLASSES, LEFT, RIGHT, ROOM, SPACING_MM

STORED_MM = 3.0
"""Grid on which chests are kept."""
CROP = (64, 48, 64)
"""Voxels of 6 mm: 384 x 288 x 384 mm."""
BELLY = 0.06
"""Share of visits below the lungs, with or without their bases."""
COARSE = 4
"""Positions are computed at every so many voxels and interpolated."""
UNSEEN = 0.2
"""Weight of voxels beyond the scan."""
Random = np.random.Generator
Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Chest:
    """hu: (Z, Y, X) HU at 3 mm, axes to the head, the back and the left;  shares: (5, Z, Y, X), summing to 1."""

    name: str
    hu: Array
    shares: Array


@dataclass(eq=False)
class Visit:
    """A chest on the 6 mm grid while it is being changed; seen: share of each voxel within the scan, 0..1."""

    hu: Array
    shares: Array
    seen: Array
    rng: Random

    @property
    def shape(self) -> tuple[int, ...]:
        return self.hu.shape

    @property
    def lungs(self) -> Array:
        return self.shares[RIGHT] + self.shares[LEFT]

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def field(self, smooth: float) -> Array:
        """A smooth random field of unit variance; smooth: voxels."""
        coarse = [max(4, round(n / max(smooth, 1.0)) + 3) for n in self.shape]
        values = self.rng.standard_normal(coarse).astype(np.float32)
        grid = torch.from_numpy(values)[None, None]
        out = functional.interpolate(grid, size=self.shape, mode="trilinear", align_corners=True)[0, 0].numpy()
        return (out - out.mean()) / (out.std() + 1e-6)

    def noise(self) -> Array:
        return self.rng.standard_normal(self.shape).astype(np.float32)

    def ball(self, centre: NDArray[np.float64], radii_mm: NDArray[np.float64]) -> Array:
        """Signed distance in voxels, about, from an ellipsoid: negative inside."""
        axes = np.ogrid[tuple(slice(0, n) for n in self.shape)]
        square = sum(((a - c) / (r / SPACING_MM)) ** 2 for a, c, r in zip(axes, centre, radii_mm, strict=True))
        return ((np.sqrt(square) - 1) * radii_mm.mean() / SPACING_MM).astype(np.float32)

    def away(self, mask: NDArray[np.bool_]) -> Array:
        """Distance from the mask in voxels, from every second voxel."""
        half = ndimage.distance_transform_edt(~mask[::2, ::2, ::2]).astype(np.float32) * 2
        whole = functional.interpolate(torch.from_numpy(half)[None, None], size=self.shape, mode="trilinear")
        return whole[0, 0].numpy()

    def put(self, weight: Array, hu: Array | float, becomes: int | None = None) -> None:
        """Blend in other densities.  becomes: class of the new tissue; None leaves it unchanged."""
        self.hu = (1 - weight) * self.hu + weight * hu
        if becomes is not None:
            self.shares *= 1 - weight
            self.shares[becomes] += weight

    def somewhere(self, where: NDArray[np.bool_]) -> NDArray[np.float64] | None:
        found = np.flatnonzero(where)
        if not len(found):
            return None
        return np.asarray(np.unravel_index(found[self.rng.integers(len(found))], self.shape), np.float64)


def soft(distance: Array, width: float = 1.0) -> Array:
    """1 inside, 0 outside, over `width` voxels."""
    return np.clip(0.5 - distance / width, 0, 1).astype(np.float32)


# ---------------------------------------------------------------- geometry


def moved(chest: Chest, rng: Random, *, turned: bool = True) -> Visit:
    """The chest on the 6 mm grid: scaled, rotated, bent; turned: at times mirrored, or with two axes exchanged."""
    shape = np.asarray(chest.hu.shape)
    inside = chest.shares[RIGHT] + chest.shares[LEFT] > 0.5
    box = [np.flatnonzero(inside.any(axis)) for axis in ((1, 2), (0, 2), (0, 1))]
    middle = np.array([(b[0] + b[-1]) / 2 for b in box])
    half = np.array([(b[-1] - b[0]) / 2 for b in box]) * STORED_MM
    size = np.exp(rng.normal(0, 0.12) if rng.random() < 0.8 else rng.uniform(np.log(0.4), np.log(1.25)))
    stretch = size * np.exp(rng.normal(0, 0.07, 3))
    angles = np.radians(rng.normal(0, (6, 4, 4)) if rng.random() < 0.85 else rng.uniform(-35, 35, 3) * (1, 0.4, 0.4))
    flips, swapped = turned & (rng.random(3) < (0.12, 0.12, 0.5)), turned and rng.random() < 0.06
    lines = [np.linspace(0, n - 1, n // COARSE + 1, dtype=np.float32) for n in CROP]
    grid = np.stack(np.meshgrid(*lines, indexing="ij"), -1)
    place = (grid - (np.asarray(CROP) - 1) / 2 - rng.normal(0, (4, 2.5, 2.5))) * SPACING_MM  # mm from the lungs' middle
    if rng.random() < BELLY:
        place[..., 0] -= half[0] + rng.uniform(110, 230)
    place = place.reshape(-1, 3).astype(np.float32)
    if swapped:
        place = place[:, [(1, 0, 2), (2, 1, 0), (0, 2, 1)][rng.integers(3)]]
    place = place @ rotation(angles).T.astype(np.float32) / stretch.astype(np.float32)
    place[:, flips] *= -1
    place = bent(place, half, rng)
    index = place / STORED_MM + middle.astype(np.float32)
    unit = ((2 * index + 1) / shape - 1)[:, ::-1].reshape(1, *map(len, lines), 3).astype(np.float32)
    fine = functional.interpolate(
        torch.from_numpy(unit).permute(0, 4, 1, 2, 3), size=CROP, mode="trilinear", align_corners=True
    ).permute(0, 2, 3, 4, 1)
    stack = np.concatenate([chest.hu[None] - AIR_HU, chest.shares[1:], np.ones((1, *shape), np.float32)])
    out = functional.grid_sample(
        torch.from_numpy(np.ascontiguousarray(stack, np.float32))[None], fine, align_corners=False
    )[0].numpy()
    shares = np.empty((CLASSES, *CROP), np.float32)
    shares[1:] = out[1:-1]
    if flips[2]:
        shares[[RIGHT, LEFT]] = shares[[LEFT, RIGHT]]
    if swapped:
        by_place(shares)
    shares[ROOM] = np.clip(1 - shares[1:].sum(0), 0, 1)
    return Visit(out[0] + np.float32(AIR_HU), shares, (out[-1] > 0.5).astype(np.float32), rng)


def by_place(shares: Array) -> None:
    """Right and left by place where axes were exchanged: the lung of smaller x is the right one."""
    x = np.arange(shares.shape[-1])
    centres = [float((shares[c].sum((0, 1)) * x).sum() / max(shares[c].sum(), 1e-6)) for c in (RIGHT, LEFT)]
    if centres[0] > centres[1]:
        shares[[RIGHT, LEFT]] = shares[[LEFT, RIGHT]]


def rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """About Z, Y and X."""
    matrix = np.eye(3)
    for (a, b), angle in zip(((1, 2), (0, 2), (0, 1)), angles, strict=True):
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix


def bent(place: NDArray[np.float32], half: NDArray[np.float64], rng: Random) -> NDArray[np.float32]:
    """Places (N, 3) in mm from the lungs' middle, seen through a smooth deformation.

    Mediastinum drawn to one side, domes of the diaphragm raised or lowered, the chest flat or deep, small waves.
    """
    z, y, x = (place[:, i] / half[i] for i in range(3))
    out = place.copy()
    if rng.random() < 0.35:  # a shift of the mediastinum; the spine stays
        near = np.exp(-((x / 0.55) ** 2)) * np.clip(0.75 - y, 0, 1.2)
        out[:, 2] += float(rng.normal(0, 0.12) * half[2]) * near
    for side in (-1, 1):  # domes of the diaphragm, one of them far up at times, as in a palsy
        if rng.random() < 0.35:
            lift, reach = (rng.normal(0, 0.16), 0.45) if rng.random() < 0.6 else (-rng.uniform(0.15, 0.65), 0.85)
            near = np.exp(-(((x - 0.5 * side) / 0.45) ** 2)) * np.exp(-(((z + 0.85) / reach) ** 2))
            out[:, 0] += float(lift * half[0]) * near
    for axis in range(3):
        for _ in range(2):
            wave = sum(float(rng.normal(0, 1.6)) * v for v in (z, y, x)) + float(rng.uniform(0, 6.3))
            out[:, axis] += float(rng.normal(0, 2.5)) * np.sin(wave)
    return out


def cut(visit: Visit) -> None:
    """Crop to some planes, or to the circle of a small field of view."""
    rng, (z, y, x) = visit.rng, np.ogrid[tuple(slice(0, n) for n in visit.shape)]
    where = np.argwhere(visit.lungs > 0.5)
    if not len(where):
        return
    low, high = where.min(0), where.max(0)
    kept = np.ones(visit.shape, bool)
    least = 0.08 * (high[0] - low[0])
    foot = rng.uniform(low[0] - 8, high[0] - 3 * least) if visit.chance(0.28) else 0.0
    head = rng.uniform(max(foot, low[0]) + least, high[0] + 8) if visit.chance(0.28) else visit.shape[0]
    kept &= (z >= foot) & (z <= head)
    if visit.chance(0.25):
        margin = rng.uniform(-3, 8, 4) if visit.chance(0.7) else rng.uniform(-12, 8, 4)
        kept &= (y >= low[1] - margin[0]) & (y <= high[1] + margin[1])
        kept &= (x >= low[2] - margin[2]) & (x <= high[2] + margin[3])
    if visit.chance(0.04):
        middle = (low[2] + high[2]) / 2 + rng.normal(0, 3)
        kept &= (x < middle) if visit.chance(0.5) else (x > middle)
    if visit.chance(0.12):
        centre, radius = (low + high) / 2 + rng.normal(0, 2, 3), rng.uniform(0.45, 0.7) * (high[2] - low[2])
        kept &= (y - centre[1]) ** 2 + (x - centre[2]) ** 2 < radius**2
    visit.hu = np.where(kept, visit.hu, np.float32(AIR_HU))
    visit.seen = visit.seen * kept


# ---------------------------------------------------------------- lungs


def lungs_changed(visit: Visit) -> None:
    """Change density of whole lungs, airless parts, pneumothorax, one lung removed."""
    rng = visit.rng
    if visit.chance(0.35):  # breathed out, oedema, or hyperinflated: all of the lungs, or one of them
        side = visit.lungs if visit.chance(0.6) else visit.shares[rng.choice([RIGHT, LEFT])]
        weight = side * rng.uniform(0.3, 1.0)
        level = rng.uniform(-780, -300) if visit.chance(0.6) else rng.uniform(-995, -900)
        visit.put(weight * (visit.hu < -300), level + 40 * visit.field(2.5))
    if visit.chance(0.2):
        emptied(visit)
    if visit.chance(0.05):
        taken_out(visit)
    elif visit.chance(0.75):
        for _ in range(rng.integers(1, 4)):
            filled(visit)
        if visit.chance(0.12):
            white(visit)
    if visit.chance(0.12):
        effusion(visit)
    if visit.chance(0.06):
        pneumothorax(visit)


def part_of_a_lung(visit: Visit) -> Array | None:
    """Weight of a lobe or lobes, or of a ragged ellipsoid, often at the surface of a lung."""
    rng = visit.rng
    side = rng.choice([RIGHT, LEFT])
    share = visit.shares[side]
    place = (share > 0.5) & (ndimage.uniform_filter(share, 3) < (0.85 if visit.chance(0.65) else 1.1))
    heights = np.flatnonzero(place.any((1, 2)))
    if len(heights) and visit.chance(0.4):  # disease lies in the bases as a rule, and there it touches liver and spleen
        place = place & (np.arange(visit.shape[0]) < heights[0] + 0.35 * len(heights))[:, None, None]
    centre = visit.somewhere(place)
    if centre is None:
        return None
    if visit.chance(0.5):
        distance = visit.ball(centre, rng.uniform(10, 75, 3))
    else:
        axes = np.ogrid[tuple(slice(0, n) for n in visit.shape)]
        distance = np.full(visit.shape, -99, np.float32)
        for _ in range(rng.integers(1, 3)):
            normal = rng.normal(size=3) * (1.5, 1.0, 0.5)
            normal /= np.linalg.norm(normal)
            plane = sum(n * (a - c) for n, a, c in zip(normal, axes, centre, strict=True))
            distance = np.maximum(distance, plane)
    ragged = distance + visit.field(rng.uniform(1.5, 5)) * rng.uniform(0.2, 1.6)
    return soft(ragged, rng.uniform(0.7, 3.0)) * share


def airless(visit: Visit) -> Array:
    """Densities of consolidated, collapsed or tumorous lung."""
    rng = visit.rng
    low, high = ((-20, 75), (-150, -20), (75, 140))[rng.choice(3, p=(0.6, 0.25, 0.15))]
    return rng.uniform(low, high) + rng.uniform(3, 45) * visit.field(rng.uniform(1, 2.5))


def filled(visit: Visit) -> None:
    weight = part_of_a_lung(visit)
    if weight is not None:
        patchy = visit.chance(0.15)
        visit.put(weight, visit.rng.uniform(-600, -100) + 60 * visit.field(1.5) if patchy else airless(visit))


def white(visit: Visit) -> None:
    """A lung without air, except possibly its top, bottom or front."""
    rng = visit.rng
    share = visit.shares[rng.choice([RIGHT, LEFT])].copy()
    weight = share
    if visit.chance(0.6):
        axis = rng.choice(3)
        lines = np.flatnonzero((share > 0.5).any(tuple(i for i in range(3) if i != axis)))
        if len(lines):
            edge = lines[0] + rng.uniform(0, 0.35) * (lines[-1] - lines[0])
            index = np.arange(share.shape[axis]).reshape([-1 if i == axis else 1 for i in range(3)])
            keep = index < edge if visit.chance(0.5) else index > lines[-1] - (edge - lines[0])
            weight = share * ~keep
    visit.put(weight, airless(visit))


def emptied(visit: Visit) -> None:
    """End-stage emphysema of a lung or its part, or bullae, with walls or without."""
    rng = visit.rng
    if visit.chance(0.4):
        share = visit.shares[rng.choice([RIGHT, LEFT])]
        visit.put(share * (visit.hu < -500) * rng.uniform(0.8, 1), rng.uniform(-1005, -960) + 5 * visit.noise())
        return
    for _ in range(rng.integers(1, 4)):
        share = visit.shares[rng.choice([RIGHT, LEFT])]
        centre = visit.somewhere((share > 0.5) & (ndimage.uniform_filter(share, 3) < 0.9))
        if centre is None:
            continue
        distance = visit.ball(centre, rng.uniform(12, 90, 3)) + rng.uniform(0, 0.6) * visit.field(3)
        visit.put(soft(distance) * (share > 0.3), rng.uniform(-1005, -955) + 5 * visit.noise())
        if visit.chance(0.5):
            visit.put(soft(np.abs(distance) - 0.3) * share, rng.uniform(-850, -100))


def taken_out(visit: Visit) -> None:
    """One lung removed: a narrow residue of fluid and fat, which is body. The other lung stays."""
    rng = visit.rng
    side = rng.choice([RIGHT, LEFT])
    fluid = rng.uniform(-110, 40) + rng.uniform(5, 25) * visit.field(2)
    visit.put(visit.shares[side].copy(), fluid, BODY)


def effusion(visit: Visit) -> None:
    """Free pleural fluid at the back, a side or the base: uniform, smooth, and not lung.

    Some of the lung above it is airless, and stays lung.
    """
    rng = visit.rng
    share = visit.shares[rng.choice([RIGHT, LEFT])].copy()
    where = np.argwhere(share > 0.5)
    if len(where) < 50:
        return
    down = np.array([-rng.uniform(0, 0.8), rng.choice([1, 1, 1, -1]) * rng.uniform(0.3, 1), rng.normal(0, 0.3)])
    depth = where @ down
    axes = np.ogrid[tuple(slice(0, n) for n in visit.shape)]
    uneven = rng.uniform(0, 1.0) * visit.field(6)
    below = np.quantile(depth, rng.uniform(0.6, 0.97)) - sum(d * a for d, a in zip(down, axes, strict=True)) + uneven
    if visit.chance(0.5):
        visit.put(soft(below - rng.uniform(0, 5), 1.5) * share, airless(visit))
    visit.put(soft(below, 1.0) * share, rng.uniform(-5, 30) + rng.uniform(0, 6) * visit.field(1.5), BODY)


def pneumothorax(visit: Visit) -> None:
    """Air around a shrunken lung. Everything inside the chest wall stays lung, as it cannot be told from bullae."""
    rng = visit.rng
    share = visit.shares[rng.choice([RIGHT, LEFT])].copy()
    depth = visit.away(share <= 0.5)
    if depth.max() < 3:
        return
    rim = depth.max() * rng.uniform(0.15, 0.6)
    y = np.arange(visit.shape[1], dtype=np.float32)[None, :, None] / visit.shape[1]
    around = soft(depth - rim * (1.4 - y * rng.uniform(0, 1)), 1.5) * share
    visit.put(share * (visit.hu < -300), rng.uniform(-750, -100) + 60 * visit.field(1.5))
    visit.put(around, rng.uniform(-1005, -970))


# ---------------------------------------------------------------- body and surroundings


def body_changed(visit: Visit) -> None:
    """Bowel gas, contrast medium, fat, breasts, arms."""
    rng = visit.rng
    wall = visit.away(visit.shares[BODY] <= 0.5)
    far = visit.away(visit.lungs >= 0.5)
    for _ in range(rng.integers(0, 5)):
        centre = visit.somewhere((wall > 4) & (far > 5))
        if centre is not None:
            free = np.clip(far - 2, 0, 1) * np.clip(wall - 2, 0, 1)
            gas = soft(visit.ball(centre, rng.uniform(8, 45, 3)) + 0.5 * visit.field(2)) * free
            level = rng.uniform(-1000, -850) if visit.chance(0.7) else rng.uniform(-700, -200)
            visit.put(gas * visit.shares[BODY], level)
    tissue = visit.shares[BODY] * np.clip((visit.hu + 20) / 40, 0, 1)
    if visit.chance(0.35):  # contrast medium: heart and vessels, or organs
        where = soft(-(visit.field(rng.uniform(4, 9)) - rng.uniform(-0.3, 1.2)), 0.4)
        visit.hu = visit.hu + tissue * where * rng.uniform(30, 320)
    if visit.chance(0.3):  # fat in place of soft tissue, as around the heart and below the diaphragm
        where = soft(-(visit.field(rng.uniform(3, 7)) - rng.uniform(0.3, 1.3)), 0.3)
        visit.put(tissue * where * (visit.hu < 120), -100 + 12 * visit.field(1.5))
    if visit.chance(0.3):
        breasts(visit)
    if visit.chance(0.3):
        arms(visit)


def skin_rows(visit: Visit) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Frontmost row of the body for each (z, x), and a mask of where there is one."""
    body = visit.shares[ROOM] < 0.5
    return body.argmax(1), body.any(1)


def breasts(visit: Visit) -> None:
    rng = visit.rng
    front, there = skin_rows(visit)
    body = visit.shares[ROOM] < 0.5
    columns = np.flatnonzero(body.any((0, 1)))
    slices = np.flatnonzero(visit.lungs.sum((1, 2)) > 5)
    if len(columns) < 10 or len(slices) < 5:
        return
    z = slices[0] + rng.uniform(0.25, 0.75) * (slices[-1] - slices[0])
    apart, width = rng.uniform(0.18, 0.34), columns[-1] - columns[0]
    radii = np.array([rng.uniform(35, 85), rng.uniform(20, 75), rng.uniform(40, 70)])
    for sign in (-1, 1):
        x = (columns[0] + columns[-1]) / 2 + sign * apart * width
        column = int(np.clip(round(x), 0, visit.shape[2] - 1))
        row = front[int(z), column] if there[int(z), column] else visit.shape[1] // 3
        distance = visit.ball(np.array([z + rng.normal(0, 2), row + rng.uniform(-4, 2), x]), radii)
        gland = rng.uniform(-110, -90) if visit.chance(0.6) else rng.uniform(-90, 30)
        weight = soft(distance) * visit.shares[ROOM]
        visit.put(weight, gland + 25 * visit.field(1.5), BODY)
        visit.put(soft(np.abs(distance) - 0.1, 0.8) * weight * 0.6, 20)


def arms(visit: Visit) -> None:
    """Beside the chest or above it, along the body; a gap of air, or none."""
    rng = visit.rng
    body = visit.shares[ROOM] < 0.5
    columns, rows = np.flatnonzero(body.any((0, 1))), np.flatnonzero(body.any((0, 2)))
    if not len(columns):
        return
    z, y, x = np.ogrid[tuple(slice(0, n) for n in visit.shape)]
    for end, sign in ((columns[0], -1), (columns[-1], 1)):
        if visit.chance(0.2):
            continue
        radius = rng.uniform(25, 55) / SPACING_MM
        middle = (rows[0] + rows[-1]) / 2 + rng.normal(0, 5)
        centre = end + sign * (radius * rng.uniform(0.6, 1.3) + rng.uniform(-2, 4))
        lean = rng.normal(0, 0.15, 2)
        tilt = z - visit.shape[0] / 2
        r = np.sqrt((y - middle - lean[0] * tilt) ** 2 + (x - centre - lean[1] * tilt) ** 2)
        distance = np.broadcast_to(r - radius, visit.shape).astype(np.float32)
        weight = soft(distance) * visit.shares[ROOM]
        visit.put(weight, np.where(distance > -2, -95, 50).astype(np.float32), BODY)
        visit.put(soft(distance + 0.72 * radius) * weight, rng.uniform(300, 900))


def surroundings(visit: Visit) -> None:
    """Couch, gown, blanket: visible, but not body. The space between them and the skin is room."""
    rng = visit.rng
    if visit.chance(0.4):  # the scan's own couch and clothes away
        visit.put(visit.shares[ROOM].copy(), AIR_HU)
    _, y, x = np.ogrid[tuple(slice(0, n) for n in visit.shape)]
    body = visit.shares[ROOM] < 0.5
    if not body.any():
        return
    rows = np.flatnonzero(body.any((0, 2)))
    if visit.chance(0.4):
        behind = visit.chance(0.85)
        at = rows[-1] + rng.uniform(0, 4) if behind else rows[0] - rng.uniform(0, 4)
        curve = rng.uniform(0, 0.012) * (x - visit.shape[2] / 2) ** 2 * (-1 if behind else 1)
        for shell in (0, rng.uniform(3, 12)):
            depth = np.abs(y - (at + (shell if behind else -shell) + curve)) - rng.uniform(0.2, 0.9)
            weight = soft(np.broadcast_to(depth, visit.shape)) * visit.shares[ROOM]
            visit.put(weight, rng.uniform(-750, 150))
    if visit.chance(0.35):
        cover(visit, body)


def cover(visit: Visit, body: NDArray[np.bool_]) -> None:
    """Cloth over the body, at some distance, with folds: the air under it is room air, or reads a little more."""
    rng = visit.rng
    away = visit.away(body)
    hollow = ndimage.gaussian_filter(body.astype(np.float32), rng.uniform(3, 7))
    lift = rng.uniform(0.5, 5) + 1.5 * visit.field(6)
    shell = np.abs(away - lift) if visit.chance(0.5) else np.abs(hollow - rng.uniform(0.12, 0.4)) * 12
    front = (np.arange(visit.shape[1]) < visit.shape[1] * rng.uniform(0.4, 0.9))[None, :, None]
    room = visit.shares[ROOM] * front
    visit.put(soft(shell - rng.uniform(0.2, 0.8)) * room, rng.uniform(-850, -100))
    pocket = room * (away < lift) * (away > 0.5)
    visit.put(pocket * rng.uniform(0, 1), rng.uniform(-1000, -880) + 30 * np.abs(visit.field(1.5)))


def scanned(visit: Visit) -> None:
    """Noise, smoothing or sharpening, a shifted scale, clipping."""
    rng = visit.rng
    if visit.chance(0.4):
        blurred = ndimage.gaussian_filter(visit.hu, rng.uniform(0.4, 0.9))
        visit.hu = blurred if visit.chance(0.6) else visit.hu + rng.uniform(0.2, 1.0) * (visit.hu - blurred)
    sd = rng.uniform(0, 25) if visit.chance(0.85) else rng.uniform(25, 60)
    visit.hu = visit.hu + sd * visit.noise() + rng.normal(0, 10)
    if visit.chance(0.3):
        visit.hu = visit.hu + rng.uniform(2, 20) * visit.field(8)
    visit.hu = np.where(visit.seen > 0.5, np.clip(visit.hu, -1024, 3000), np.float32(AIR_HU)).astype(np.float32)


def visit_of(chest: Chest, rng: Random) -> tuple[Tensor, Tensor, Tensor]:
    """HU (1, *CROP), shares of the classes (5, *CROP) and weights (1, *CROP) of one training visit."""
    return _changed(moved(chest, rng))


def by_header(chest: Chest, rng: Random) -> tuple[Tensor, Tensor, Tensor]:
    """The same for a chest in the orientation of its header."""
    return _changed(moved(chest, rng, turned=False))


def _changed(visit: Visit) -> tuple[Tensor, Tensor, Tensor]:
    lungs_changed(visit)
    body_changed(visit)
    surroundings(visit)
    cut(visit)
    scanned(visit)
    seen = visit.seen > 0.5
    shares = np.clip(visit.shares, 0, 1) * seen
    shares[ROOM] += ~seen  # what was not scanned is room
    shares /= np.maximum(shares.sum(0, keepdims=True), 1e-6)
    dense = visit.hu > -300
    near = ndimage.maximum_filter(visit.lungs, 5) > 0.5
    weight = UNSEEN + visit.seen * (1 + 3 * (dense & near) + (visit.lungs > 0.5))
    return (
        torch.from_numpy(visit.hu)[None],
        torch.from_numpy(shares),
        torch.from_numpy(weight.astype(np.float32))[None],
    )
