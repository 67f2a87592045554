"""The chest in which lesions are drawn: analytic, or a real scan. Part of `independent_phantom.py`.

Lengths are in millimetres, axes are (Z, Y, X): feet to head, front to back, patient's right to left (supine: the back
is dependent). Surfaces are signed distances, negative inside. There are two grids with the same origin: a fine one for
the image, a coarse one for smooth fields.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from independent_shapes import LOBULE_MM, Array, lattice, linear, separable, wobble
from numpy.typing import NDArray
from scipy import ndimage

from diffseglung.volume import Volume

AIR, BLOOD, MUSCLE, FAT = -1000.0, 45.0, 50.0, -100.0
MARGIN = 25.0


@dataclass
class Scene:
    """The chest in which lesions are drawn.

    hu, lungs: fine grid (`step` mm), HU and lung mask.
    depth:     coarse grid, mm below the pleura, negative outside.   level: coarse grid, HU of lung without vessels.
    side:      coarse grid, 0 outside, 1 right, 2 left.              hila: where the main bronchus enters each lung.
    """

    step: float
    coarse: float
    hu: Array
    lungs: NDArray[np.bool_]
    depth: Array
    level: Array
    side: NDArray[np.uint8]
    hila: dict[int, Array]
    bronchi: Array = field(default_factory=lambda: np.zeros((0, 4), np.float32))

    def up(self, values: Array, box: tuple[slice, ...] | None = None) -> Array:
        """A coarse field interpolated to the fine grid, or to a part of it."""
        box = box or tuple(slice(0, n) for n in self.hu.shape)
        at = [np.arange(part.start, part.stop) * (self.step / self.coarse) for part in box]
        return separable(values, *(linear(n, a) for n, a in zip(values.shape, at, strict=True)))


@dataclass(frozen=True)
class Build:
    """An analytic chest: half width, half depth and height of the rib cage, inflation and density of the lungs."""

    a: float
    b: float
    h: float
    breath: float
    slope: float
    blood: float
    fat: float
    tilt: float
    mosaic: float
    dependent: float

    @classmethod
    def drawn(cls, rng: np.random.Generator, scale: float) -> Build:
        """Random parameters; in expiration lungs are smaller, denser and have a steeper dependent gradient."""
        breath = rng.uniform(-880, -760)
        size = scale * rng.uniform(0.94, 1.05) * (1 - 0.0008 * (breath + 880))
        return cls(
            a=128 * size,
            b=92 * size * rng.uniform(0.94, 1.06),
            h=232 * size * rng.uniform(0.92, 1.06),
            breath=breath,
            slope=rng.uniform(20, 50) + 0.3 * (breath + 880),
            blood=rng.choice([BLOOD, BLOOD, rng.uniform(130, 230)]),
            fat=rng.uniform(8, 26),
            tilt=rng.uniform(0.75, 1.05),
            mosaic=rng.choice([0, 0, rng.uniform(25, 50)]),
            dependent=rng.choice([0, rng.uniform(40, 130)]),
        )


def smooth_max(a: Array, b: Array, k: float = 5.0) -> Array:
    """Intersection of two surfaces with a rounded edge."""
    return 0.5 * (a + b + np.sqrt((a - b) ** 2 + k * k))


def ellipsoid(p: list[Array], centre: tuple[float, ...], semi: tuple[float, ...], power: float = 2.0) -> Array:
    """Approximate signed distance."""
    q = sum(np.abs((c - m) / s) ** power for c, m, s in zip(p, centre, semi, strict=True))
    return (q ** (1 / power) - 1) * min(semi)


def fissures(p: list[Array], build: Build, left: bool) -> list[Array]:
    """Signed mm above the oblique fissure and, in the right lung, above the minor one."""
    z, y, x = p
    bow = 6 * np.sin(y / 23) + 5 * np.sin(x / 31 + 1) + (4 if left else 0)
    oblique = (z - 0.46 * build.h - build.tilt * y - bow) / np.sqrt(1 + build.tilt**2)
    return [oblique] if left else [oblique, z - 0.5 * build.h + 0.12 * y - 4 * np.sin(x / 24)]


def anatomy(p: list[Array], build: Build, rng: np.random.Generator, coarse: float) -> tuple[Array, Array, Array]:
    """Signed distance of the lungs (right, left) and HU of everything else, on a grid of points."""
    z, y, x = p
    t = np.clip(z / build.h, 0, 1)
    a, b = build.a * (1 - 0.42 * t**3), build.b * (1 - 0.36 * t**2.5)
    across, along = np.abs(x / a), np.abs((y - 8 * t) / b)
    cage = ((across**2.3 + along**2.3) ** (1 / 2.3) - 1) * 0.5 * (a + b)
    u = build.b
    middle = (np.sqrt(((x - 4) / 23) ** 2 + ((y - 2) / (0.78 * u)) ** 2 + 0 * z) - 1) * 23
    heart = ellipsoid(p, (0.25 * build.h, -0.24 * u, 0.18 * build.a), (0.27 * build.h, 0.5 * u, 0.44 * build.a))
    arch = ellipsoid(p, (0.68 * build.h, 0, 12), (22, 0.36 * u, 25))
    spine = np.hypot(x, y - 0.86 * u) - 25 + 0 * z
    aorta = np.hypot(x - 19, y - 0.55 * u) - 13 + 0 * z
    for other in (heart, arch, spine, aorta):
        middle = -smooth_max(-middle, -other, 7)
    lungs, domes = [], []
    for sign, rise in ((-1, rng.uniform(0.3, 0.38)), (1, rng.uniform(0.24, 0.32))):
        r2 = ((x - sign * 0.5 * build.a) / (0.56 * build.a)) ** 2 + ((y + 0.06 * u) / (0.95 * u)) ** 2
        dome = 16 - 26 * (y / u) + rise * build.h * np.clip(1 - r2, -0.4, 1)
        domes.append(dome)
        over = np.maximum(z - 0.35 * build.h, 0) / (0.64 * build.h)
        q = np.sqrt(over**2 + ((x - sign * 0.52 * build.a) / (0.55 * build.a)) ** 2 + ((y - 4) / (1.08 * u)) ** 2)
        lung = smooth_max(smooth_max(cage, (q - 1) * 60), smooth_max(-middle, (dome - z) * 0.75, 3), 4)
        lungs.append(lung / np.clip(np.sqrt(sum(g * g for g in np.gradient(lung, coarse))), 0.5, 2).astype(np.float32))
    below = z < np.where(x < 0, *domes)
    hu = _flesh(p, build, cage, middle, np.minimum(heart, aorta), below, rng)
    return lungs[0], lungs[1], ndimage.gaussian_filter(hu, 0.45)


def _flesh(
    p: list[Array], build: Build, cage: Array, middle: Array, vessel: Array, below: NDArray[np.bool_],
    rng: np.random.Generator,
) -> Array:  # fmt: skip
    """HU of body wall, bones, heart and abdomen."""
    z, y, x = p
    shoulder = 1 + 0.14 * np.clip((z / build.h - 0.55) / 0.5, 0, 1)
    wide, thick = (build.a + 20 + build.fat) * shoulder, build.b + 20 + build.fat
    body = ((np.abs(x / wide) ** 2.4 + np.abs((y - 3) / thick) ** 2.4) ** (1 / 2.4) - 1) * thick + 0 * z
    hu = np.where(body < 0, np.float32(FAT), np.float32(AIR))
    hu[(body < 0) & (body > -2)] = 20  # skin
    muscle = (cage < 13 + 5 * np.sin(x / 17) ** 2) & (body < -5)
    muscle |= (np.hypot(np.abs(x) - 32, y - build.b * 1.12) < 24) & (body < -5)
    hu[muscle] = MUSCLE
    phase = np.mod(z + 0.42 * y + 0.12 * np.abs(x), 27.0) - 13.5
    rib = np.hypot(phase / 1.25, cage - 6.5) - 4.6
    hu[rib < 0] = 420
    hu[rib < -2] = 200
    hu[(np.abs(x) < 17) & (np.abs(cage - 8) < 5) & (y < 0) & (z > 0.25 * build.h)] = 230
    inner = (cage < 0) & (middle < 0)
    hu[cage < 1] = MUSCLE
    hu[inner & (y < -0.25 * build.b) & (middle > -9)] = FAT + 10  # fat around heart and thymus
    hu[inner & (vessel < -5)] = build.blood
    hu[below & (cage < 2)] = rng.uniform(48, 62)
    gas = ellipsoid(p, (-4, -0.2 * build.b, 0.55 * build.a), (18, 24, 26))
    if rng.random() < 0.6:
        hu[below & (gas < 0)] = -980
    disc = np.mod(z, 25.0) < 5
    vertebra = np.hypot(x, 1.1 * (y - 0.9 * build.b)) - 17 + 0 * z
    hu[vertebra < 0] = np.where(disc, 80, 400 + 0 * vertebra)[vertebra < 0]
    hu[(vertebra < -2.5) & ~disc] = 170
    arch = np.hypot(x, y - 0.9 * build.b - 26)
    hu[(np.abs(arch - 12) < 3.5) & (body < -8) & ~disc] = 380
    hu[(arch < 8) + (0 * z > 1)] = 30
    return hu.astype(np.float32)


@dataclass(frozen=True)
class Twig:
    """A segment of a tree: end points and radii."""

    start: Array
    end: Array
    r0: float
    r1: float
    leaves: int


def grow(rng: np.random.Generator, targets: Array, origin: Array, radius: float, reach: float = 0.42) -> list[Twig]:
    """A tree that reaches every target: the volume is halved recursively, a branch runs part of the way to each
    half's centre (Kitaoka, Takaki and Suki, J Appl Physiol 1999), its radius depends on the leaves it supplies."""
    found: list[Twig] = []
    stack = [(targets, np.asarray(origin, np.float32), None)]
    while stack:
        part, start, above = stack.pop()
        centre = part.mean(0)
        alone = len(part) == 1
        end = (
            centre
            if alone
            else start + reach * (centre - start) + rng.normal(0, 0.05, 3) * np.linalg.norm(centre - start)
        )
        thick = radius * len(part) ** 0.37
        bend = (start + end) / 2 + rng.normal(0, 0.06, 3) * np.linalg.norm(end - start)
        r0 = min(above or thick, 1.25 * thick)
        found.append(Twig(start, bend, r0, thick, len(part)))
        found.append(Twig(bend, end, thick, thick * (0.6 if alone else 0.95), len(part)))
        if not alone:
            spread = (part - centre) - np.outer((part - centre) @ (way := _unit(centre - start)), way) * 0.6
            axis = np.linalg.svd(spread, full_matrices=False)[2][0]
            order = np.argsort(spread @ axis, kind="stable")
            cut = int(np.clip(round(len(part) * rng.uniform(0.35, 0.65)), 1, len(part) - 1))
            stack += [(part[order[:cut]], end, thick), (part[order[cut:]], end, thick)]
    return found


def _unit(v: Array) -> Array:
    return v / max(float(np.linalg.norm(v)), 1e-6)


def paint(cover: NDArray[np.uint8], twig: Twig, step: float, grown: float = 0.0) -> None:
    """Raise `cover` (0 to 255) to the fraction of each voxel filled by a conical tube with rounded ends."""
    a, b = twig.start, twig.end
    r0, r1 = twig.r0 + grown, twig.r1 + grown
    pad = max(r0, r1) + step
    low = np.maximum(np.floor((np.minimum(a, b) - pad) / step).astype(int), 0)
    high = np.minimum(np.ceil((np.maximum(a, b) + pad) / step).astype(int) + 1, cover.shape)
    if (high <= low).any():
        return
    box = tuple(slice(i, j) for i, j in zip(low, high, strict=True))
    axes = np.ix_(*(np.arange(i, j, dtype=np.float32) * step for i, j in zip(low, high, strict=True)))
    rel, way = [c - m for c, m in zip(axes, a, strict=True)], b - a
    along = np.clip(sum(r * w for r, w in zip(rel, way, strict=True)) / max(float(way @ way), 1e-6), 0, 1)
    far = np.sqrt(sum((r - along * w) ** 2 for r, w in zip(rel, way, strict=True)))
    r = r0 + along * (r1 - r0)
    share = np.clip(0.5 + (r - far) / step, 0, 1) * np.minimum((2 * r / step) ** 2, 1)
    np.maximum(cover[box], (share * 255).astype(np.uint8), out=cover[box])


def drawn_chest(rng: np.random.Generator, step: float = 0.8, scale: float = 1.0) -> tuple[Scene, Build]:
    """A healthy chest on a grid that contains the whole body."""
    build, coarse = Build.drawn(rng, scale), 2.5 * step
    low = np.array([-MARGIN, -(build.b + 35 + build.fat), -(build.a + 25 + build.fat) * 1.14])
    high = np.array([build.h + MARGIN, build.b + 45 + build.fat, -low[2]])
    fine = tuple(int(n) for n in np.ceil((high - low) / step))
    rough = tuple(int(np.ceil(n * step / coarse)) + 1 for n in fine)
    p = [a.astype(np.float32) for a in np.ix_(*(np.arange(n) * coarse + m for n, m in zip(rough, low, strict=True)))]
    right, left, hu = anatomy(p, build, rng, coarse)
    surface = np.minimum(right, left)
    side = np.where(surface < 0, np.where(right < left, 1, 2), 0).astype(np.uint8)
    level = _breath(p, build, surface, rng)
    scene = Scene(step, coarse, np.empty(0), np.empty(0), -surface, level, side, _hila(build, low))
    scene.hu = np.empty(fine, np.float32)  # sets the grid of `up`
    cover = scene.up(surface)
    scene.lungs = cover < 0
    cover = np.clip(0.5 - cover / step, 0, 1)
    scene.hu = scene.up(hu)
    scene.hu += cover * (scene.up(level) - scene.hu)
    split = np.minimum.reduce([np.abs(f) for f in fissures(p, build, left=True)])
    split = np.where(side == 1, np.minimum.reduce([np.abs(f) for f in fissures(p, build, left=False)]), split)
    scene.hu += np.where(scene.lungs, np.clip(0.9 - scene.up(split.astype(np.float32)) / step, 0, 1), 0) * 190
    _trees(scene, build, low, rng)
    return scene, build


def _breath(p: list[Array], build: Build, surface: Array, rng: np.random.Generator) -> Array:
    """HU of lung without vessels: inflation, small variations, mosaic attenuation, dependent density."""
    z, y, x = p
    level = build.breath + build.slope * np.clip(y / build.b, -1, 1) + 0 * (z + x) + 10 * wobble(rng, p, 45)
    level -= build.mosaic * (wobble(rng, p, 38) > 0.45)
    back = np.exp(np.minimum(surface, 0) / 7) * np.clip(y / build.b - 0.15, 0, 1) * np.clip(1.3 - z / build.h, 0, 1)
    return ndimage.gaussian_filter(level + build.dependent * 1.6 * back, 1.0).astype(np.float32)


def _hila(build: Build, low: Array) -> dict[int, Array]:
    """Where the main bronchi enter the lungs, in mm on the grid."""
    return {k: (np.array([0.55 * build.h, 0.08 * build.b, s]) - low).astype(np.float32) for k, s in ((1, -30), (2, 36))}


def _trees(scene: Scene, build: Build, low: Array, rng: np.random.Generator) -> None:
    """Arteries accompanied by bronchi, veins between them; thick at the hilum, crowded in the posterior bases."""
    blood, wall, gas = (np.zeros(scene.hu.shape, np.uint8) for _ in range(3))
    size = np.array(scene.hu.shape) * scene.step
    knots: list[Array] = []
    for kind, pitch in (("artery", 0.82 * LOBULE_MM), ("vein", 0.9 * LOBULE_MM)):
        points = lattice(rng, tuple(size), pitch)
        at = np.clip(np.round(points / scene.coarse).astype(int), 0, np.array(scene.side.shape) - 1)
        deep, side = scene.depth[tuple(at.T)], scene.side[tuple(at.T)]
        for lung, hilum in scene.hila.items():
            mine = points[(side == lung) & (deep > 3.5)]
            body = [c[:, None] for c in (mine + low).T]
            above = [f[:, 0] > 0 for f in fissures(body, build, left=lung == 2)]
            lobe = above[0] * (1 + (above[1] if lung == 1 else 0))
            low_back = mine[(mine[:, 0] + low[0] < 0.4 * build.h) & (mine[:, 1] + low[1] > 0.45 * build.b)]
            start = hilum + ([-14, -9, 0] if kind == "vein" else [2, -7, 0])
            for index in range(3):
                part = mine[lobe == index]
                if len(part) < 2:
                    continue
                if index == 0 and kind == "vein" and rng.random() < 0.6:  # crowded, and healthy
                    part = np.concatenate([part, low_back + rng.normal(0, 4, low_back.shape).astype(np.float32)])
                for twig in grow(rng, part, start, 0.46 if kind == "artery" else 0.43):
                    paint(blood, twig, scene.step)
                    if kind == "artery" and twig.leaves >= 5:
                        knots.append(_bronchus(twig, wall, gas, scene.step))
    top = np.array([build.h + MARGIN + 5, 2, 2]) - low
    fork = np.array([0.64 * build.h, 0.1 * build.b, 3]) - low
    for end, start, r in ((fork, top, 8.5), *((h, fork, 5.5) for h in scene.hila.values())):
        paint(wall, Twig(start, end, r + 1.6, r + 1.4, 99), scene.step)
        paint(gas, twig := Twig(start, end, r, r - 0.3, 99), scene.step)
        if r < 8:
            knots.append(np.stack([np.r_[twig.end, r]]))
    scene.bronchi = np.concatenate(knots).astype(np.float32)
    for cover, hu in ((wall, 20.0), (blood, build.blood), (gas, -995.0)):
        inside = np.flatnonzero(cover)
        old = scene.hu.reshape(-1)[inside]
        scene.hu.reshape(-1)[inside] = old + cover.reshape(-1)[inside] * np.float32(1 / 255) * (hu - old)
    wide = np.flatnonzero(gas > 127)  # trachea and main bronchi are not lung; small airways are
    near = ndimage.binary_opening((gas > 127), iterations=max(int(2.4 / scene.step), 1)) if len(wide) else gas > 127
    scene.lungs &= ~near


def _bronchus(twig: Twig, wall: NDArray[np.uint8], gas: NDArray[np.uint8], step: float) -> Array:
    """An airway beside its artery; returns its centreline (z, y, x, radius)."""
    way = _unit(twig.end - twig.start)
    beside = _unit(np.cross(way, np.array([0.3, -0.2, 1.0]))) * (twig.r0 * 2.0 + 0.4)
    lumen = Twig(twig.start + beside, twig.end + beside, 0.85 * twig.r0, 0.85 * twig.r1, twig.leaves)
    paint(wall, lumen, step, grown=0.35 + 0.18 * lumen.r1)
    paint(gas, lumen, step)
    n = max(int(np.linalg.norm(lumen.end - lumen.start)), 2)
    s = np.linspace(0, 1, n)[:, None]
    return np.hstack([lumen.start + s * (lumen.end - lumen.start), lumen.r0 + s * (lumen.r1 - lumen.r0)])


def real_chest(ct: Volume, lungs: Volume, step: float = 0.8) -> tuple[Scene, tuple[Array, Array]]:
    """A real scan, cropped to its lungs, as a scene; first point and step of the fine grid in voxels of the scan.

    Both volumes are on canonical axes. Noise is smoothed over one voxel, as only the change made by lesions is used.
    """
    mask = lungs.array > 0
    spacing = np.array(ct.spacing_mm)
    found = ndimage.find_objects(mask.astype(np.uint8))[0]
    first = np.array([max(f.start - 8 / s, 0) for f, s in zip(found, spacing, strict=True)])
    last = np.array([min(f.stop + 8 / s, n - 1) for f, s, n in zip(found, spacing, mask.shape, strict=True)])
    fine = tuple(int(n) for n in np.ceil((last - first) * spacing / step))
    coarse = 2.5 * step
    rough = tuple(int(np.ceil(n * step / coarse)) + 1 for n in fine)

    def take(values: Array, grid: tuple[int, ...], pitch: float) -> Array:
        at = [f + np.arange(n) * pitch / s for f, n, s in zip(first, grid, spacing, strict=True)]
        return separable(values, *(linear(n, a) for n, a in zip(values.shape, at, strict=True)))

    soft = ndimage.gaussian_filter(ct.array.astype(np.float32), np.minimum(0.9 / spacing, 0.9))
    inside = take(mask.astype(np.float32), rough, coarse)
    lung = inside > 0.5
    depth = ndimage.distance_transform_edt(lung, coarse) - ndimage.distance_transform_edt(~lung, coarse)
    hu = take(soft, rough, coarse)
    plain = (lung & (hu < -650)).astype(np.float32)
    weight = ndimage.gaussian_filter(plain, 10 / coarse) + 1e-4
    level = ndimage.gaussian_filter(np.where(plain > 0, hu + 850, 0), 10 / coarse) / weight - 850
    middle = ndimage.center_of_mass(lung)[2]
    side = np.where(lung, np.where(np.arange(lung.shape[2]) < middle, 1, 2), 0).astype(np.uint8)
    hila = {}
    for k in (1, 2):
        where = np.argwhere(side == k) * coarse
        inner = where.max(0)[2] if k == 1 else where.min(0)[2]
        hila[k] = np.array([np.quantile(where[:, 0], 0.5), where[:, 1].mean(), inner], np.float32)
    scene = Scene(
        step, coarse, take(soft, fine, step), take(mask.astype(np.float32), fine, step) > 0.5,
        depth.astype(np.float32), level.astype(np.float32), side, hila,
    )  # fmt: skip
    return scene, (first, step / spacing)
