"""Lesions drawn after their radiological definitions. Part of `independent_phantom.py`.

Definitions follow the glossary of the Fleischner Society (Hansell et al., Radiology 2008;246:697) and, for emphysema,
Takahashi et al. (Int J COPD 2008;3:193). Every family is a function of a `Patch`, the voxels of a
region as flat arrays, and returns their HU and the lesion fraction of each voxel.

Shapes are built from hard-core point processes, Voronoi and power cells, plane waves and tubes around polylines.
There are no random fields.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from independent_shapes import (
    Array,
    Patch,
    anchor,
    branching,
    cells,
    drawn_pair,
    emptied,
    filled,
    laid,
    sheet,
    spaced,
    tube,
    wobble,
)
from scipy.spatial import cKDTree

EMPHYSEMA, GGO, FIBROSIS, CONSOLIDATION = 2, 3, 4, 5
Shares = dict[int, Array]


# --- emphysema: low attenuation, usually without visible walls -----------------------------------------------------


def centrilobular(p: Patch, rng: np.random.Generator) -> tuple[Array, Shares]:
    """Separate round lucencies without walls around the lobular cores, of varying size."""
    pitch = rng.uniform(4.5, 8.5)
    seeds = spaced(rng, p.xyz[p.inside > 0], pitch, None)
    if not len(seeds):
        return p.hu, {}
    tree = cKDTree(seeds)
    size = rng.gamma(9, 1 / 9, len(seeds)) * pitch * rng.uniform(0.48, 0.62)
    d, i = tree.query(p.xyz, k=3)
    r = size[np.minimum(i, len(seeds) - 1)] * (1 + 0.12 * wobble(rng, p.points, 5))[:, None]
    gap = np.min(d - r, axis=1)
    hole = np.clip(0.5 - gap / rng.uniform(0.9, 1.8), 0, 1) * (p.inside > -2)
    dark = rng.uniform(-985, -955)
    hu = emptied(p.hu, p.level, dark, hole.astype(np.float32), kept=0.7)
    return hu, {EMPHYSEMA: hole.astype(np.float32)}


def panlobular(p: Patch, rng: np.random.Generator) -> tuple[Array, Shares]:
    """Whole lobules uniformly dark with few thin vessels; fades into the surrounding lung."""
    share = p.edge(rng.uniform(5, 14))
    near = cKDTree(p.lobules).query(p.xyz)[1]
    dark = rng.uniform(-975, -945) + rng.normal(0, 7, len(p.lobules))[near]
    return emptied(p.hu, p.level, dark.astype(np.float32), share, kept=0.75), {EMPHYSEMA: share}


def paraseptal(p: Patch, rng: np.random.Generator) -> tuple[Array, Shares]:
    """A single row of subpleural air spaces separated by thin septa perpendicular to the pleura."""
    reach = rng.uniform(7, 15)
    row = p.xyz[(p.inside > 0) & (p.depth > 0.3 * reach) & (p.depth < 0.7 * reach)]
    seeds = spaced(rng, row, rng.uniform(0.8, 1.3) * reach)
    seeds = seeds[rng.random(len(seeds)) < 0.75]  # for varying widths
    if len(seeds) < 2:
        return p.hu, {}
    _, plane, pair = cells(p.xyz, seeds)
    deep = reach * rng.uniform(0.55, 1.25, len(seeds)) * (rng.random(len(seeds)) < 0.8)  # some lobules are spared
    deep = deep[pair[:, 0]]
    dome = p.depth - deep * np.clip(0.45 + plane / (0.4 * reach), 0.45, 1)  # rounded towards the lung
    space = np.clip(0.5 - dome / p.step, 0, 1) * np.clip(0.5 + p.inside / 2, 0, 1)
    septum = sheet(plane, rng.uniform(0.5, 0.9), p.step)
    hu = emptied(p.hu, p.level, rng.uniform(-995, -965), space.astype(np.float32), kept=0.3)
    rim = sheet(dome + 0.3, 0.45, p.step) * (p.inside > 0)
    wall = np.maximum(septum * space, 0.6 * rim)
    return laid(hu, -350, wall.astype(np.float32)), {EMPHYSEMA: space.astype(np.float32)}


def bullous(p: Patch, rng: np.random.Generator) -> tuple[Array, Shares]:
    """One to four subpleural air spaces over 1 cm, with walls thinner than 1 mm and compressed lung around them."""
    hu, total = p.hu, np.zeros(len(p.hu), np.float32)
    room = float(np.cbrt((p.inside > 0).sum()) * p.step)
    for _ in range(rng.integers(1, 5)):
        semi = np.clip(rng.uniform(0.22, 0.5) * room, 6, 30) * rng.uniform(0.75, 1.25, 3)
        fit = np.flatnonzero((p.inside > 0) & (p.depth < 0.9 * semi.min()) & (p.depth > 0.4 * semi.min()))
        if not len(fit):
            continue
        rel = (p.xyz - p.xyz[rng.choice(fit)]) / semi
        gap = (np.sqrt((rel**2).sum(1)) * (1 + 0.05 * wobble(rng, p.points, 22)) - 1) * semi.mean()
        hole = np.clip(0.5 - gap / p.step, 0, 1).astype(np.float32)
        hu = emptied(hu, p.level, rng.uniform(-1000, -980), hole, kept=0.15)
        hu = laid(hu, -420, sheet(gap, rng.uniform(0.4, 0.8), p.step).astype(np.float32))
        hu = filled(hu, p.level, p.level + 90, (np.exp(-np.maximum(gap, 0) / 4) * (gap > 0)).astype(np.float32))
        total = np.maximum(total, hole)
    return hu, {EMPHYSEMA: total}


# --- ground glass: vessels and bronchi remain visible ------------------------------------------------------------


def haze(p: Patch, rng: np.random.Generator) -> tuple[Array, Shares]:
    """Homogeneous ground glass with ill-defined borders."""
    share = p.edge(rng.uniform(6, 18))
    target = p.level + rng.uniform(130, 360) * (1 + 0.12 * wobble(rng, p.points, 16))
    return filled(p.hu, p.level, np.minimum(target, -400), share), {GGO: share}


def patchwork(p: Patch, rng: np.random.Generator) -> tuple[Array, Shares]:
    """Geographic ground glass: affected lobules beside spared ones, sharp straight edges, varying density."""
    _, plane, pair = cells(p.xyz + 1.5 * np.stack([wobble(rng, p.points, 9) for _ in range(3)], 1), p.lobules)
    ill = rng.random(len(p.lobules)) < rng.uniform(0.65, 0.85)
    rise = rng.uniform(150, 420, len(p.lobules))
    mine = ill[pair[:, 0]]
    share = np.where(mine == ill[pair[:, 1]], mine, np.clip(0.5 + np.where(mine, 1, -1) * plane / 1.6, 0, 1))
    share = (share * p.edge(2)).astype(np.float32)
    near = np.where(mine, pair[:, 0], pair[:, 1])
    target = np.minimum(p.level + rise[near], -340).astype(np.float32)
    return filled(p.hu, p.level, target, share), {GGO: share}


def soft_nodules(p: Patch, rng: np.random.Generator) -> tuple[Array, Shares]:
    """Ill-defined centrilobular nodules of ground glass, 4 to 9 mm, evenly spaced, none at the pleura."""
    pitch = rng.uniform(6.0, 9.0)
    seeds = spaced(rng, p.xyz[(p.inside > 0) & (p.depth > 4)], pitch)
    if not len(seeds):
        return p.hu, {}
    d, i = cKDTree(seeds).query(p.xyz)
    r = rng.uniform(0.4, 0.62, len(seeds))[i] * pitch * (1 + 0.15 * wobble(rng, p.points, 6))
    ball = np.clip(1.4 - (d / r) ** 2 * 0.95, 0, 1) * np.clip(0.5 + p.inside / 6, 0, 1)
    target = np.minimum(p.level + rng.uniform(220, 400), -380)
    veil = 0.18 * p.edge(8)
    share = np.maximum(ball, veil).astype(np.float32)
    return filled(p.hu, p.level, target, share), {GGO: np.clip(ball, 0, 1).astype(np.float32)}


def halo(p: Patch, rng: np.random.Generator) -> tuple[Array, Shares]:
    """Solid nodules, each with a halo of ground glass about as wide as the nodule."""
    gap = rng.uniform(26, 38)
    seeds = spaced(rng, p.xyz[(p.inside > 3) & (p.depth > 7)], gap)
    if not len(seeds):
        seeds = anchor(p, rng, 8)[None]
    d, i = cKDTree(seeds).query(p.xyz)
    core = rng.uniform(0.13, 0.24, len(seeds))[i] * gap * (1 + 0.16 * wobble(rng, p.points, 9))
    ring = core + rng.uniform(0.2, 0.32, len(seeds))[i] * gap * (1 + 0.2 * wobble(rng, p.points, 13))
    solid = np.clip(0.5 + (core - d) / 1.5, 0, 1).astype(np.float32)
    glass = np.clip(0.5 + (ring - d) / rng.uniform(3, 6), 0, 1).astype(np.float32)
    hu = filled(p.hu, p.level, np.minimum(p.level + rng.uniform(200, 340), -400), glass)
    return filled(hu, p.level, rng.uniform(10, 45), solid), {GGO: glass * (1 - solid), CONSOLIDATION: solid}


def crazy_paving(p: Patch, rng: np.random.Generator) -> tuple[Array, Shares]:
    """Ground glass with superimposed thin interlobular and intralobular lines; the ground glass dominates."""
    share = p.edge(4)
    target = np.minimum(p.level + rng.uniform(230, 380), -400)
    hu = filled(p.hu, p.level, target, share)
    small = spaced(rng, p.xyz[p.inside > -4], rng.uniform(5.0, 7.5))
    bent = p.xyz + 0.8 * np.stack([wobble(rng, p.points, 7) for _ in range(3)], 1)
    net = sheet(cells(bent, p.lobules)[1], rng.uniform(0.8, 1.1), p.step)
    if len(small) > 1:
        net = np.maximum(net, 0.8 * sheet(cells(bent, small)[1], rng.uniform(0.5, 0.8), p.step))
    return laid(hu, target + rng.uniform(140, 240), (net * share).astype(np.float32)), {GGO: share}


# --- fibrosis: reticulation, traction, honeycombing ----------------------------------------------------------------


def _net(p: Patch, rng: np.random.Generator, pitch: float, kept: float, widths: tuple[float, float]) -> Array:
    """Irregular wavy lines: walls of unequal cells, some missing, of varying width."""
    near = p.inside > -5
    seeds = spaced(rng, p.xyz[near], pitch * 0.62)
    seeds = seeds[rng.random(len(seeds)) < 0.55]  # unequal cells
    if len(seeds) < 3:
        return np.zeros(len(p.hu), np.float32)
    bent = p.xyz + np.stack([wobble(rng, p.points, 6) for _ in range(3)], 1) * 0.28 * pitch / 2
    _, plane, pair = cells(bent, seeds, tuple(rng.uniform(0.75, 1.3, 3)))
    draw = drawn_pair(rng, pair, 1)
    width = widths[0] + (widths[1] - widths[0]) * drawn_pair(rng, pair, 7) ** 2
    return sheet(plane, width, p.step) * (draw < kept)


def reticulation(p: Patch, rng: np.random.Generator) -> tuple[Array, Shares]:
    """Thick and thin irregular lines in otherwise nearly normal lung, densest at the pleura."""
    fade = p.edge(5) * np.clip(1.25 - p.depth / rng.uniform(45, 80), 0.35, 1)
    thin = _net(p, rng, rng.uniform(6.0, 9.0), 0.65, (0.5, 1.0))
    thick = _net(p, rng, rng.uniform(12, 18), 0.8, (0.9, 2.2))
    lines = np.maximum(0.75 * thin, thick) * fade
    hu = filled(p.hu, p.level, p.level + rng.uniform(25, 80), p.edge(6))
    return laid(hu, rng.uniform(-180, 0), lines.astype(np.float32)), {FIBROSIS: lines.astype(np.float32)}


def traction(p: Patch, rng: np.random.Generator) -> tuple[Array, Shares]:
    """Coarse lines that dominate the underlying ground glass, and dilated, beaded airways."""
    share = p.edge(5)
    hu = filled(p.hu, p.level, np.minimum(p.level + rng.uniform(110, 210), -520), share)
    lines = np.maximum(_net(p, rng, rng.uniform(5.5, 8), 0.85, (0.7, 1.7)), _net(p, rng, 13, 0.9, (1.0, 2.4)))
    hu = laid(hu, rng.uniform(-120, 20), (lines * share).astype(np.float32))
    courses = []
    for _ in range(max(int((p.inside > 0).sum() * p.step**3 / 9000), 2)):
        start = p.xyz[rng.choice(np.flatnonzero(p.inside > 0))]
        course = branching(rng, start, start - p.hilum, rng.uniform(14, 24), rng.uniform(1.7, 3.2), 1)
        beads = 1 + 0.32 * np.sin(np.arange(len(course)) * 0.7 / rng.uniform(0.8, 1.4) + rng.uniform(0, 6))
        courses.append(np.column_stack([course[:, :3], course[:, 3] * beads]))
    gap = tube(p.xyz, np.concatenate(courses))
    wall = sheet(gap - 0.5, rng.uniform(1.0, 1.6), p.step) * (p.inside > 0)
    lumen = np.clip(0.5 - gap / p.step, 0, 1) * (p.inside > 0)
    hu = laid(hu, -60, wall.astype(np.float32))
    hu = hu + lumen * (-970 - hu)
    return hu, {FIBROSIS: (np.maximum.reduce([lines, wall, lumen]) * share).astype(np.float32)}


def honeycomb(p: Patch, rng: np.random.Generator) -> tuple[Array, Shares]:
    """Layers of clustered subpleural cysts of 3 to 10 mm with shared, well-defined walls of 1 to 3 mm."""
    pitch = rng.uniform(4.2, 9.0)
    reach = rng.uniform(2, 4) * pitch
    layer = np.abs(np.mod(p.depth / (0.86 * pitch), 1) - 0.5) < 0.22
    seeds = spaced(rng, p.xyz[(p.inside > -2) & (p.depth < reach) & layer], 0.84 * pitch)
    if len(seeds) < 2:
        return p.hu, {}
    d, plane, pair = cells(p.xyz + 0.5 * np.stack([wobble(rng, p.points, 8) for _ in range(3)], 1), seeds)
    wall = rng.uniform(1.0, 1.5) + rng.gamma(2, 0.15, len(seeds))[pair[:, 0]]
    round_ = rng.uniform(0.56, 0.7, len(seeds))[pair[:, 0]] * pitch - d
    room = np.minimum(plane - wall / 2, round_)
    cyst = np.clip(0.5 + room / p.step, 0, 1)
    ragged = reach + 0.5 * pitch * wobble(rng, p.points, 14)
    zone = np.clip(0.5 + (ragged - p.depth) / 2, 0, 1) * np.clip(0.5 + p.inside / 2, 0, 1)
    tissue = rng.uniform(-200, 20)
    hu = laid(p.hu, tissue, zone.astype(np.float32))
    inner = (cyst * zone).astype(np.float32)
    return hu + inner * (rng.uniform(-970, -880) - hu), {FIBROSIS: zone.astype(np.float32)}


def bands(p: Patch, rng: np.random.Generator) -> tuple[Array, Shares]:
    """Short interrupted curvilinear lines a few mm below the pleura, and parenchymal bands that run inwards from it."""
    lines = np.zeros(len(p.hu), np.float32)
    pitch = rng.uniform(5, 8)
    for k in range(rng.integers(1, 3)):
        at = (k + 0.8) * pitch + 2.6 * wobble(rng, p.points, 24)
        whole = np.clip(0.5 + 2.5 * (wobble(rng, p.points, 30) + 0.2), 0, 1)
        lines = np.maximum(lines, whole * sheet(p.depth - at, rng.uniform(0.9, 2.0), p.step))
    seeds = spaced(rng, p.xyz[p.inside > -4], rng.uniform(11, 17))
    if len(seeds) > 2:
        bent = p.xyz + np.stack([wobble(rng, p.points, 18) for _ in range(3)], 1) * 3
        _, plane, pair = cells(bent, seeds)
        stand = drawn_pair(rng, pair, 3)
        across = sheet(plane, 0.7 + 1.4 * drawn_pair(rng, pair, 5), p.step) * (stand < 0.5)
        lines = np.maximum(lines, across)
    fine = _net(p, rng, 7.0, 0.6, (0.5, 1.0))
    reach = rng.uniform(16, 28)
    zone = np.clip(0.5 + (reach - p.depth) / 6, 0, 1) * p.edge(3)
    lines = np.maximum(lines, 0.6 * fine) * zone
    hu = filled(p.hu, p.level, p.level + rng.uniform(40, 120), zone.astype(np.float32))
    return laid(hu, rng.uniform(-150, 20), lines.astype(np.float32)), {FIBROSIS: lines.astype(np.float32)}


# --- consolidation: vessels and airway walls obscured -------------------------------------------------------------


def _airways(p: Patch, rng: np.random.Generator, n: int) -> Array:
    """The chest's own airways in the region, and additional ones from the hilum."""
    near = p.bronchi[cKDTree(p.xyz[::7]).query(p.bronchi[:, :3], distance_upper_bound=3)[0] < 3]
    rows = [near]
    for _ in range(n):
        fit = np.flatnonzero(p.inside > 2)
        aim = p.xyz[rng.choice(fit if len(fit) else np.arange(len(p.hu)))]
        start = aim + 0.25 * (p.hilum - aim)
        far = float(np.linalg.norm(aim - start))
        rows.append(branching(rng, start, aim - start, 0.6 * far + 6, rng.uniform(1.3, 2.3), 3))
    return np.concatenate(rows)


def segmental(p: Patch, rng: np.random.Generator) -> tuple[Array, Shares]:
    """Airspace filling from the pleura towards the hilum: ragged edges where acini are spared; air bronchograms."""
    share = np.clip(0.5 + (p.inside + 2.2 * wobble(rng, p.points, 8)) / 2.5, 0, 1).astype(np.float32)
    near = cKDTree(p.lobules).query(p.xyz)[1]
    density = rng.uniform(10, 55) + rng.normal(0, 8, len(p.lobules))[near]
    hu = filled(p.hu, p.level, density.astype(np.float32), share)
    count = max(int((share > 0.5).sum() * p.step**3 / 9000), 2)
    lumen = np.clip(0.5 - tube(p.xyz, _airways(p, rng, count)) / p.step, 0, 1).astype(np.float32)
    return hu + lumen * share * (-960 - hu), {CONSOLIDATION: share}


def peribronchial(p: Patch, rng: np.random.Generator) -> tuple[Array, Shares]:
    """Patches along airways with ragged edges, most around a patent lumen, and spared lung between."""
    courses = _airways(p, rng, max(int((p.inside > 0).sum() * p.step**3 / 16000), 2))
    centre = courses.copy()
    swell = 0.5 + 0.5 * wobble(rng, [courses[:, k] for k in range(3)], 24)
    centre[:, 3] = np.clip(swell, 0.15, 1) * rng.uniform(10, 16)
    gap = tube(p.xyz, centre) + 2.0 * wobble(rng, p.points, 7)
    share = (np.clip(0.5 - gap / 2.5, 0, 1) * p.edge(5)).astype(np.float32)
    veil = (np.clip(0.8 - gap / 6, 0, 1) * p.edge(5)).astype(np.float32)
    hu = filled(p.hu, p.level, np.minimum(p.level + rng.uniform(130, 220), -550), veil)
    hu = filled(hu, p.level, rng.uniform(0, 50), share)
    lumen = (np.clip(0.5 - tube(p.xyz, courses) / p.step, 0, 1) * share).astype(np.float32)
    return hu + lumen * (-950 - hu), {GGO: veil * (1 - share), CONSOLIDATION: share}


def atelectasis(p: Patch, rng: np.random.Generator) -> tuple[Array, Shares]:
    """A lens of collapsed lung along the pleura, smooth towards the lung, with plate-like bands that extend inwards."""
    thick = rng.uniform(9, 20)
    lens = (
        thick
        * np.sqrt(np.clip(p.inside / max(float(p.inside.max()), 1), 0, 1))
        * (1 + 0.15 * wobble(rng, p.points, 30))
    )
    low, high = np.quantile(p.xyz[:, 1], [0.1, 0.9])
    lens *= np.clip(1.5 * (p.xyz[:, 1] - low) / max(high - low, 1), 0, 1)  # dependent: denser at the back
    share = np.clip(0.5 + (lens - p.depth) / 1.5, 0, 1)
    way = rng.normal(size=3) * [1.6, 0.4, 0.4]
    along = (p.xyz - anchor(p, rng, 10)) @ (way / np.linalg.norm(way)) + 2 * wobble(rng, p.points, 28)
    plate = np.clip(0.5 + (rng.uniform(2.0, 3.5) - np.abs(along)) / 1.2, 0, 1) * (p.depth < thick + 28) * (p.inside > 3)
    share = (np.maximum(share, plate) * (p.inside > -1)).astype(np.float32)
    return filled(p.hu, p.level, rng.uniform(20, 70), share), {CONSOLIDATION: share}


def mass(p: Patch, rng: np.random.Generator) -> tuple[Array, Shares]:
    """Round or lobulated, 2 to 6 cm, with spiculations; occasionally a second one."""
    share, thorn = np.zeros(len(p.hu), np.float32), np.zeros(len(p.hu), np.float32)
    room = float(np.cbrt((p.inside > 0).sum()) * p.step)
    for _ in range(rng.integers(1, 3)):
        centre, radius = anchor(p, rng, 14), float(np.clip(rng.uniform(0.28, 0.42) * room, 9, 28))
        rel = p.xyz - centre
        d = np.linalg.norm(rel, axis=1)
        way = rel / np.maximum(d, 1e-3)[:, None]
        bumps = rng.normal(size=(14, 3))
        bumps /= np.linalg.norm(bumps, axis=1)[:, None]
        lobes = np.maximum.reduce([np.exp(12 * (way @ b - 1)) for b in bumps])
        surface = radius * (0.75 + rng.uniform(0.15, 0.45) * lobes + 0.06 * wobble(rng, p.points, 8))
        share = np.maximum(share, np.clip(0.5 + (surface - d) / 1.5, 0, 1))
        rays = rng.normal(size=(26, 3))
        rays /= np.linalg.norm(rays, axis=1)[:, None]
        off = np.minimum.reduce([np.arccos(np.clip(way @ b, -1, 1)) for b in rays]) * d
        thorn = np.maximum(thorn, sheet(off, rng.uniform(1.4, 2.4), p.step) * (d < surface + rng.uniform(3, 13)))
    hu = laid(p.hu, -200, thorn)
    return filled(hu, p.level, rng.uniform(20, 60), share.astype(np.float32)), {CONSOLIDATION: share.astype(np.float32)}


@dataclass(frozen=True)
class Family:
    """How a lesion is drawn, its preferred location, and how its fraction becomes a label.

    zone: preference of height (1 head, -1 feet), of the pleura (1) or the core (-1), and of the back (1).
    blur, least: the fraction is averaged over `blur` mm; a voxel is lesion where the average is at least `least`.
    """

    label: int
    draw: Callable[[Patch, np.random.Generator], tuple[Array, Shares]]
    zone: tuple[float, float, float]
    blur: float = 0.8
    least: float = 0.5
    extent: float = 1.0

    @property
    def name(self) -> str:
        return self.draw.__name__


FAMILIES = (
    Family(EMPHYSEMA, centrilobular, (1, -0.2, 0), 3.0, 0.27),
    Family(EMPHYSEMA, panlobular, (-0.8, 0, -0.3)),
    Family(EMPHYSEMA, paraseptal, (0.7, 1.5, 0), 1.0, 0.45, 1.3),
    Family(EMPHYSEMA, bullous, (1.2, 1.2, -0.3), 0.8, 0.5, 1.5),
    Family(GGO, haze, (0, 0, 0.3)),
    Family(GGO, patchwork, (-0.3, 0.2, 0)),
    Family(GGO, soft_nodules, (0.4, -0.3, 0), 3.0, 0.25),
    Family(GGO, halo, (0, 0, 0)),
    Family(GGO, crazy_paving, (0, 0, 0)),
    Family(FIBROSIS, reticulation, (-0.8, 1.0, 0.5), 3.5, 0.1),
    Family(FIBROSIS, traction, (-0.7, 0.5, 0.5), 3.5, 0.16),
    Family(FIBROSIS, honeycomb, (-1.0, 1.6, 1.2), 1.0, 0.5, 1.3),
    Family(FIBROSIS, bands, (-0.6, 1.5, 0.5), 3.0, 0.13, 1.2),
    Family(CONSOLIDATION, segmental, (-0.5, 0.4, 0.3)),
    Family(CONSOLIDATION, peribronchial, (0, -0.4, 0), 0.8, 0.5, 1.4),
    Family(CONSOLIDATION, atelectasis, (-1.2, 1.5, 1.5), 0.8, 0.5, 2.0),
    Family(CONSOLIDATION, mass, (0.4, -0.2, 0), 0.8, 0.5, 1.6),
)
