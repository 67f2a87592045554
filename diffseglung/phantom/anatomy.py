"""A stylised chest: body wall, ribs, spine, mediastinum, heart, diaphragm, lungs with vessels, bronchi and fissures.

All shapes are signed distances in mm (positive inside), so that partial volume at borders is exact at any spacing.
Coordinates: z from the feet up, y from the front (0 at the chest's centre), x from the patient's right (0 at midline).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffseglung.phantom.record import ChestParts, Draw
from diffseglung.phantom.texture import Field, SmoothNoise, sheet
from diffseglung.phantom.trees import beside, draw_tubes, grow, scatter
from diffseglung.volume import Shape


@dataclass(frozen=True, eq=False)
class Grid:
    """Voxel centres in mm of the drawing grid, or of the slab of its planes `first` <= z < `last`.

    Shapes are drawn slab by slab to save memory.
    """

    shape: Shape
    spacing_mm: tuple[float, float, float]
    first: int = 0
    last: int = -1

    @property
    def axes(self) -> tuple[Field, Field, Field]:
        """Coordinates (Z, 1, 1), (1, Y, 1), (1, 1, X): z from 0, y and x centred."""
        pairs = zip(self.shape, self.spacing_mm, strict=True)
        z, y, x = (np.arange(n, dtype=np.float32) * np.float32(s) for n, s in pairs)
        return z[self.planes][:, None, None], (y - y[-1] / 2)[None, :, None], (x - x[-1] / 2)[None, None, :]

    @property
    def planes(self) -> slice:
        """Planes of the slab."""
        return slice(self.first, self.shape[0] if self.last < 0 else self.last)

    def slabs(self, thickness: int = 24) -> list[Grid]:
        """The whole grid, in slabs."""
        starts = range(0, self.shape[0], thickness)
        return [Grid(self.shape, self.spacing_mm, k, min(k + thickness, self.shape[0])) for k in starts]

    def noise(self, rng: np.random.Generator, scale_mm: float) -> SmoothNoise:
        """A random field on the whole grid."""
        return SmoothNoise(rng, self.shape, self.spacing_mm, scale_mm)

    def index_mm(self, z: float, y: float, x: float) -> NDArray[np.float64]:
        """A point in mm from the first voxel of the grid (index times spacing)."""
        _, ny, nx = self.shape
        return np.array([z, y + (ny - 1) * self.spacing_mm[1] / 2, x + (nx - 1) * self.spacing_mm[2] / 2])


@dataclass(frozen=True, eq=False)
class Chest:
    """HU outside the lungs (soft tissue, bone, air), and the parts of the lungs."""

    outside: Field
    parts: ChestParts

    def compose(self) -> Field:
        """HU of the whole chest; overwrites `outside`."""
        parts, voxel = self.parts, float(np.mean(self.parts.spacing_mm))
        for k in range(0, len(self.outside), 24):
            z = slice(k, k + 24)
            coverage = np.clip(parts.depth[z] / voxel + 0.5, 0, 1)
            self.outside[z] += coverage * (parts.compose(z) - self.outside[z])
        return self.outside


def build(grid: Grid, draw: Draw, *, scale: float, exhale: float = 0.2) -> Chest:
    """A healthy chest drawn on `grid`.  scale: 1 is an adult.  exhale: probability of expiration."""
    frame = _frame(grid, draw, scale)
    body = {name: draw.uniform(name, low, high) for name, low, high in (("fat_mm", 6, 20), ("heart_size", 0.88, 1.12))}
    ripple, mottle = grid.noise(draw.stream(1), 22 * scale + 6), grid.noise(draw.stream(2), 9.0)
    depth, outside = np.empty(grid.shape, np.float32), np.empty(grid.shape, np.float32)
    for slab in grid.slabs():
        shapes = _shapes(slab, frame, body["heart_size"])
        bounds = [shapes[name] for name in ("cage", "above", "spine", "mediastinum", "heart")]
        z = slab.planes
        depth[z] = np.minimum.reduce(bounds) + np.float32(1.2) * ripple.slab(z.start, z.stop)
        outside[z] = _body(slab, shapes, frame, (body["fat_mm"], mottle.slab(z.start, z.stop)))
    trunk = _trunk(grid, draw, frame)
    _draw_central_airways(outside, depth, trunk, grid)
    side = np.where(grid.axes[2] < frame.middle, 1, 2).astype(np.uint8)
    lungs = ((depth > 0) * side).astype(np.uint8)
    return Chest(outside, _lung_scene(grid, draw, lungs, depth, (trunk, frame, exhale)))


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Landmarks in mm: half sizes of the rib cage, midline, bottom of the lungs, height of the domes, apex, spine."""

    half_x: float
    half_y: float
    middle: float
    recess: float
    dome: float
    apex: float
    spine_y: float
    scale: float

    @property
    def floor(self) -> float:
        """Level of the bottom of the heart."""
        return self.recess + 0.6 * self.dome


def _frame(grid: Grid, draw: Draw, scale: float) -> Frame:
    """Random landmarks."""
    height = grid.shape[0] * grid.spacing_mm[0]
    half_y = draw.uniform("cage_half_depth_mm", 84, 98) * scale
    return Frame(
        half_x=draw.uniform("cage_half_width_mm", 122, 138) * scale,
        half_y=half_y,
        middle=3 * scale,
        recess=draw.uniform("recess_level", 0.02, 0.10) * height,
        dome=draw.uniform("dome_height_mm", 58, 95) * scale,
        apex=height * draw.uniform("apex_level", 0.93, 0.97),
        spine_y=half_y * draw.uniform("spine_place", 0.66, 0.74),
        scale=scale,
    )


def _shapes(grid: Grid, frame: Frame, heart_size: float) -> dict[str, Field]:
    """Signed distances in mm, positive where lung may lie; the lung is where their minimum is positive."""
    z, y, x = grid.axes
    scale = np.float32(frame.scale)
    level = np.clip((z - frame.recess) / (frame.apex - frame.recess), -0.5, 1.05)
    taper = np.sqrt(np.clip(1 - np.clip((level - 0.12) / 0.88, 0, 1.0) ** 2.3, 1e-3, 1)).astype(np.float32)
    wide, deep = frame.half_x * taper, frame.half_y * taper**0.8
    back = 14 * scale * np.clip(level, 0, 1)
    rho = ((np.abs(x) / wide) ** 2.3 + (np.abs(y - back) / deep) ** 2.3) ** np.float32(1 / 2.3)
    cage = (1 - rho) * np.minimum(wide, deep)

    spine_y = frame.spine_y + back
    body = np.sqrt(x**2 + (y - spine_y) ** 2) - 19 * scale
    arch = np.where(y > spine_y, np.abs(x) - 13 * scale, np.float32(1e3))
    aorta = np.sqrt((x - 21 * scale) ** 2 + (y - spine_y + 19 * scale) ** 2) - 12 * scale
    aorta = np.where(level < 0.68, aorta, np.float32(1e3))
    spread = 6 + 21 * np.exp(-(((y - 10 * scale) / (32 * scale)) ** 2)) + 12 * np.clip(level, 0, 1) ** 2
    mediastinum = np.minimum(np.abs(x - frame.middle) - spread * scale, aorta)
    h = heart_size * frame.scale
    heart = _ellipsoid(
        z - frame.floor - 22 * scale, y + 20 * scale + 0.25 * x, x - 20 * scale + 0.3 * (z - frame.floor - 22 * scale),
        np.array([56, 48, 64]) * h,
    )  # fmt: skip
    side = np.where(x < frame.middle, 1, -1).astype(np.float32)
    across = np.abs(x - frame.middle) - 0.42 * frame.half_x
    across = np.where(across > 0, across / (0.58 * frame.half_x), across / (0.95 * frame.half_x))
    radius2 = across**2 + ((y + 10 * scale) / (1.0 * frame.half_y)) ** 2
    surface = frame.recess + frame.dome * (1 - radius2) * (0.99 + 0.07 * side)
    above = (z - surface) * 0.75
    return {
        "cage": cage, "above": above, "spine": np.minimum(body, arch), "mediastinum": mediastinum, "heart": heart,
        "side": side, "vertebra": body, "aorta": aorta,
    }  # fmt: skip


def _ellipsoid(z: Field, y: Field, x: Field, radii: NDArray[np.float64]) -> Field:
    """Approximate signed distance, positive outside."""
    rz, ry, rx = (float(r) for r in radii)
    return np.asarray((np.sqrt((z / rz) ** 2 + (y / ry) ** 2 + (x / rx) ** 2) - 1) * min(rz, ry, rx), np.float32)


def _body(grid: Grid, shapes: dict[str, Field], frame: Frame, look: tuple[float, Field]) -> Field:
    """HU outside the lungs: wall, fat, ribs, spine, heart, liver, couch, air."""
    z, y, x = grid.axes
    fat, noise = look[0] * max(frame.scale, 0.6), look[1]
    muscle = 20 * max(frame.scale, 0.6)
    wall = -shapes["cage"]
    skin = 1 - (
        (np.abs(x) / (frame.half_x + muscle + fat)) ** 2.5 + (np.abs(y - 6) / (frame.half_y + muscle + fat)) ** 2.5
    )
    skin = skin * frame.half_y / 2.5
    hu = np.full(noise.shape, -1000, np.float32)
    body = (skin > 0) | (wall < 13)
    np.copyto(hu, -100 + 8 * noise, where=body)
    np.copyto(hu, 48 + 8 * noise, where=body & ((wall < muscle + 4 * noise) | (skin > fat + 3 * noise)))
    np.copyto(hu, -95 + 12 * noise, where=(wall < -2) & (np.abs(x) < 60))
    np.copyto(hu, 42 + 4 * noise, where=(shapes["heart"] < 0) | (shapes["aorta"] < 0))
    organ = 51 + 7 * shapes["side"]
    np.copyto(hu, organ + 4 * noise, where=(shapes["above"] < 0) & (wall < 0))
    great = np.hypot(x - 4 * frame.scale, y + 4) < 20 * frame.scale
    np.copyto(hu, 40 + 4 * noise, where=great & (wall < 0) & (z > frame.floor))
    phase = np.mod(z - (0.65 + 0.1 * np.sign(y)) * y + 3 * noise, 25.0) / 25.0
    rib = (wall > 2) & (wall < 9) & (phase < 0.40) & (np.abs(x) > 16 * frame.scale)
    np.copyto(hu, 190 + 40 * noise, where=rib)
    np.copyto(hu, 520 + 60 * noise, where=rib & ((wall < 3.4) | (wall > 7.6) | (phase < 0.06) | (phase > 0.34)))
    bone = shapes["vertebra"] < -2
    np.copyto(hu, 170 + 35 * noise, where=bone)
    np.copyto(hu, 480 + 50 * noise, where=bone & (shapes["vertebra"] > -4))
    np.copyto(hu, 75 + 6 * noise, where=bone & (np.mod(z, 26) < 5))
    behind = (np.abs(x) < 4) & (y > frame.spine_y + 24 * frame.scale) & (skin > fat) & (np.mod(z, 26) < 15)
    np.copyto(hu, 420 + 40 * noise, where=behind)
    sternum = (np.abs(x) < 16 * frame.scale) & (wall > 1) & (wall < 11) & (y < 0)
    np.copyto(hu, 220 + 40 * noise, where=sternum)
    couch = np.abs(y - 0.0012 * x**2 - frame.half_y - muscle - fat - 10) < 1.2
    np.copyto(hu, -300, where=couch & (skin < 0) & (hu < -900))
    return hu


def _trunk(grid: Grid, draw: Draw, frame: Frame) -> list[NDArray[np.float64]]:
    """Points of the central airway: top of the trachea, carina, right hilum, left hilum."""
    scale, middle = frame.scale, frame.middle
    carina = frame.floor + draw.uniform("carina_level", 0.48, 0.56) * (frame.apex - frame.floor)
    top = grid.shape[0] * grid.spacing_mm[0] + 10
    return [
        grid.index_mm(top, 24 * scale, middle * 0.5),
        grid.index_mm(carina, 14 * scale, middle),
        grid.index_mm(carina - 24 * scale, 12 * scale, middle - 32 * scale),
        grid.index_mm(carina - 30 * scale, 14 * scale, middle + 36 * scale),
    ]


def _draw_central_airways(outside: Field, depth: Field, trunk: list[NDArray[np.float64]], grid: Grid) -> None:
    """Trachea and main bronchi: air with a wall, outside the lungs."""
    top, carina, right, left = trunk
    scale = float(np.clip((left - right)[2] / 72, 0.55, 1.2))
    lines = [(top, carina, 8.5 * scale), (carina, right, 6.5 * scale), (carina, left, 6.0 * scale)]
    start, end = np.array([a for a, _, _ in lines]), np.array([b for _, b, _ in lines])
    radius = np.array([r for _, _, r in lines])
    wall, air = np.zeros(grid.shape, np.float32), np.zeros(grid.shape, np.float32)
    draw_tubes(wall, start, end, radius + 1.5, grid.spacing_mm)
    draw_tubes(air, start, end, radius, grid.spacing_mm)
    outside += wall * (40 - outside)
    outside += air * (-1000 - outside)
    depth[wall > 0.5] = np.minimum(depth[wall > 0.5], -0.5)


def _lung_scene(
    grid: Grid,
    draw: Draw,
    lungs: NDArray[np.uint8],
    depth: Field,
    marks: tuple[list[NDArray[np.float64]], Frame, float],
) -> ChestParts:
    """Parenchyma with gravity gradient and texture; vessels, bronchi and fissures."""
    trunk, frame, exhaled = marks
    y = grid.axes[1]
    exhale = draw.chance("exhale", exhaled)
    mode = draw.uniform("exhale_hu", -790, -700) if exhale else draw.uniform("healthy_hu", -900, -820)
    tilt = mode + draw.uniform("gravity_hu", 15, 75) * 0.7 * y / float(np.abs(y).max())
    sizes = enumerate(((2.2, 6, 16), (7.0, 4, 11), (30.0, 4, 12)))
    grains = [
        (np.float32(draw.uniform(f"texture_{i}_hu", low, high)), grid.noise(draw.stream(3, i), size))
        for i, (size, low, high) in sizes
    ]
    parenchyma = np.empty(grid.shape, np.float32)
    for slab in grid.slabs():
        z = slab.planes
        parenchyma[z] = tilt
        for amount, grain in grains:
            parenchyma[z] += amount * grain.slab(z.start, z.stop)
    vessels, lumen = np.zeros(grid.shape, np.float32), np.zeros(grid.shape, np.float32)
    density = draw.uniform("vessel_ends_per_ml", 1.2, 2.0)
    for number, hilum in ((1, trunk[2]), (2, trunk[3])):
        lung = (lungs == number) & (depth > 1.5)
        _draw_trees((vessels, lumen), grid, draw.stream(4, number), lung, (hilum, density))
    _draw_fissures(vessels, grid, draw, lungs, frame)
    contrast = draw.chance("contrast", 0.25)
    blood = draw.uniform("contrast_hu", 120, 280) if contrast else draw.uniform("blood_hu", 30, 60)
    truth = (lungs > 0).astype(np.uint8)
    return ChestParts(parenchyma, vessels, lumen, lungs, depth, truth, grid.spacing_mm, frame.scale, blood)


def _draw_trees(
    shares: tuple[Field, Field],
    grid: Grid,
    rng: np.random.Generator,
    lung: NDArray[np.bool_],
    root: tuple[NDArray[np.float64], float],
) -> None:
    """Draw arteries, veins and bronchi (beside the arteries) of one lung into the shares of vessel and airway air."""
    (vessels, lumen), (hilum, density) = shares, root
    n = int(np.clip(lung.sum() * np.prod(grid.spacing_mm) / 1000 * density, 40, 8000))
    for shift in (np.array([4.0, -4.0, 0.0]), np.array([-10.0, -8.0, 0.0])):
        tree = grow(rng, hilum + shift, scatter(rng, lung, grid.spacing_mm, n), tip_mm=0.47)
        draw_tubes(vessels, tree.start, tree.end, tree.radius, grid.spacing_mm)
        if shift[0] > 0:
            bronchi = beside(tree, rng, least_ends=12, ratio=0.62)
            draw_tubes(vessels, bronchi.start, bronchi.end, bronchi.radius * 1.12 + 0.4, grid.spacing_mm)
            draw_tubes(lumen, bronchi.start, bronchi.end, bronchi.radius, grid.spacing_mm)


def _draw_fissures(vessels: Field, grid: Grid, draw: Draw, lungs: NDArray[np.uint8], frame: Frame) -> None:
    """Draw the sheets between the lobes: oblique in both lungs, horizontal in the right one."""
    height = grid.shape[0] * grid.spacing_mm[0]
    voxel = float(np.mean(grid.spacing_mm))
    waves = grid.noise(draw.stream(5), 45 * frame.scale)
    thick = draw.uniform("fissure_mm", 0.2, 0.55)
    level = draw.uniform("horizontal_fissure", 0.5, 0.56) * height
    slopes = {number: draw.uniform(f"fissure_slope_{number}", 0.8, 1.2) for number in (1, 2)}
    for slab in grid.slabs():
        z, y, x = slab.axes
        wave = 5 * frame.scale * waves.slab(slab.planes.start, slab.planes.stop)
        wave += 10 * frame.scale * (np.abs(x) / float(np.abs(x).max())) ** 2
        share, inside = vessels[slab.planes], lungs[slab.planes]
        for number, middle in ((1, 0.46), (2, 0.50)):
            slope = slopes[number]
            oblique = (z - middle * height - slope * y) / float(np.hypot(1, slope)) + wave
            part = sheet(oblique, thick, voxel)
            if number == 1:
                part = np.maximum(part, sheet(z - level + wave, thick, voxel) * (oblique > 0))
            np.maximum(share, part, out=share, where=inside == number)
