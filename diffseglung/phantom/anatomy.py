"""A stylised chest: body wall, ribs, spine, mediastinum, heart, diaphragm, lungs with vessels, bronchi and fissures.

All shapes are signed distances in mm (positive inside), so that borders are partial-volume exact at any spacing.
Coordinates: z from the feet up, y from the front (0 at the chest's centre), x from the patient's right (0 at midline).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffseglung.phantom.record import Draw, Scene
from diffseglung.phantom.texture import Field, sheet, smooth_noise
from diffseglung.phantom.trees import Tree, beside, draw_tubes, grow, scatter
from diffseglung.volume import Shape


@dataclass(frozen=True, eq=False)
class Grid:
    """Voxel centres of the drawing grid in mm, as open axes (Z, 1, 1), (1, Y, 1), (1, 1, X)."""

    shape: Shape
    spacing_mm: tuple[float, float, float]

    @property
    def axes(self) -> tuple[Field, Field, Field]:
        """z from 0, y and x centred."""
        z, y, x = (
            np.arange(n, dtype=np.float32) * np.float32(s) for n, s in zip(self.shape, self.spacing_mm, strict=True)
        )
        return z[:, None, None], (y - y[-1] / 2)[None, :, None], (x - x[-1] / 2)[None, None, :]

    def index_mm(self, z: float, y: float, x: float) -> NDArray[np.float64]:
        """A point in the grid's own corner-based millimetres (index times spacing)."""
        _, ny, nx = self.shape
        return np.array([z, y + (ny - 1) * self.spacing_mm[1] / 2, x + (nx - 1) * self.spacing_mm[2] / 2])


@dataclass(frozen=True, eq=False)
class Chest:
    """What the scanner sees: soft tissue and bone outside the lungs, and the lung scene."""

    outside: Field
    coverage: Field
    scene: Scene


def build(grid: Grid, draw: Draw, *, scale: float) -> Chest:
    """A healthy chest drawn on `grid`; `scale` 1 is an adult."""
    z, y, x = grid.axes
    height = float(z.max())
    half_x = draw.uniform("cage_half_width_mm", 122, 138) * scale
    half_y = draw.uniform("cage_half_depth_mm", 84, 98) * scale
    floor = draw.uniform("diaphragm_level", 0.10, 0.22) * height
    apex = height * draw.uniform("apex_level", 0.93, 0.97)
    level = np.clip((z - floor) / (apex - floor), -0.5, 1.05)
    taper = np.sqrt(np.clip(1 - np.clip((level - 0.25) / 0.75, 0, 1.0) ** 2.6, 1e-3, 1)).astype(np.float32)
    wide, deep = half_x * taper, half_y * taper**0.85
    back = 12 * scale * np.clip(level, 0, 1)
    rho = ((np.abs(x) / wide) ** 2.4 + (np.abs(y - back) / deep) ** 2.4) ** np.float32(1 / 2.4)
    cage = (1 - rho) * np.minimum(wide, deep)

    middle = 4 * scale
    spine_y = half_y * 0.80
    spine = np.sqrt(x**2 + (y - spine_y - back) ** 2) - 21 * scale
    spread = 7 + 22 * np.exp(-(((y - 8 * scale) / (34 * scale)) ** 2)) + 14 * np.clip(level, 0, 1) ** 2
    mediastinum = np.abs(x - middle) - spread * scale * np.float32(1)
    heart_z = floor + 46 * scale
    heart = _ellipsoid(z - heart_z, y + 22 * scale, x - 24 * scale, np.array([50, 46, 56]) * scale)
    side = np.where(x < middle, 1, -1).astype(np.float32)
    dome = draw.uniform("dome_height_mm", 38, 60) * scale
    radius = np.sqrt(
        ((np.abs(x - middle) - 0.5 * half_x) / (0.62 * half_x)) ** 2 + ((y + 8 * scale) / (0.95 * half_y)) ** 2
    )
    surface = floor + (6 * side + dome * (1 - radius**2) - dome * 0.35) * np.where(side > 0, 1.0, 0.92)
    above = (z - surface) * 0.85

    depth = np.minimum(np.minimum(cage, above), np.minimum(np.minimum(spine, mediastinum), heart)).astype(np.float32)
    depth += 1.2 * smooth_noise(draw.stream(1), grid.shape, grid.spacing_mm, 22 * scale + 6)
    lungs = ((depth > 0) * np.where(side > 0, 1, 2)).astype(np.uint8)
    outside = _body(grid, draw, (rho, cage, spine, above, heart, side))
    trunk = _trunk(grid, draw, middle, floor, apex, scale)
    _draw_central_airways(outside, depth, trunk, grid)
    lungs[depth <= 0] = 0
    coverage = np.clip(depth / float(np.mean(grid.spacing_mm)) + 0.5, 0, 1)
    scene = _lung_scene(grid, draw, lungs, depth, trunk, scale)
    return Chest(outside, coverage, scene)


def _ellipsoid(z: Field, y: Field, x: Field, radii: NDArray[np.float64]) -> Field:
    """Approximate signed distance, positive outside."""
    norm = np.sqrt((z / radii[0]) ** 2 + (y / radii[1]) ** 2 + (x / radii[2]) ** 2)
    return np.asarray((norm - 1) * radii.min(), np.float32)


def _body(grid: Grid, draw: Draw, shapes: tuple[Field, ...]) -> Field:
    """HU of everything that is not lung: wall, fat, ribs, spine, heart, liver, air around."""
    rho, cage, spine, above, heart, side = shapes
    z, y, x = grid.axes
    fat = draw.uniform("fat_mm", 6, 22)
    wall = -cage
    body = fat + 24 - wall
    hu = np.full(grid.shape, -1000, np.float32)
    noise = smooth_noise(draw.stream(2), grid.shape, grid.spacing_mm, 9.0)
    hu[body > 0] = -100
    np.copyto(hu, 48 + 8 * noise, where=wall < 20 + 4 * noise)
    np.copyto(hu, -95 + 12 * noise, where=(wall < -2) & (np.abs(x) < 60))
    np.copyto(hu, 42 + 4 * noise, where=heart < 0)
    organ = np.where(side > 0, 58.0, 44.0)
    np.copyto(hu, organ + 4 * noise, where=(above < 0) & (wall < 0))
    great = np.sqrt((x - 4) ** 2 + (y + 4) ** 2) < 22
    np.copyto(hu, 40 + 4 * noise, where=great & (wall < 0))
    slant = np.where(y < 0, -0.55, -0.75) * y
    phase = np.mod(z + slant + 3 * noise, 25.0) / 25.0
    rib = (wall > 2) & (wall < 10) & (phase < 0.40) & (np.abs(x) > 16)
    shell = rib & ((wall < 3.6) | (wall > 8.4) | (phase < 0.06) | (phase > 0.34))
    np.copyto(hu, 190 + 40 * noise, where=rib)
    np.copyto(hu, 520 + 60 * noise, where=shell)
    bone = spine < -2
    np.copyto(hu, 170 + 35 * noise, where=bone)
    np.copyto(hu, 480 + 50 * noise, where=bone & (spine > -4.5))
    disc = np.mod(z, 26) < 5
    np.copyto(hu, 75 + 6 * noise, where=bone & disc)
    sternum = (np.abs(x) < 16) & (wall > 1) & (wall < 12) & (y < 0)
    np.copyto(hu, 220 + 40 * noise, where=sternum)
    return hu


def _trunk(grid: Grid, draw: Draw, middle: float, floor: float, apex: float, scale: float) -> list[NDArray[np.float64]]:
    """Points of the central airway: top of the trachea, carina, right hilum, left hilum."""
    carina = floor + draw.uniform("carina_level", 0.52, 0.60) * (apex - floor)
    top = grid.shape[0] * grid.spacing_mm[0] + 10
    return [
        grid.index_mm(top, 22 * scale, middle * 0.5),
        grid.index_mm(carina, 14 * scale, middle),
        grid.index_mm(carina - 20 * scale, 12 * scale, middle - 34 * scale),
        grid.index_mm(carina - 26 * scale, 14 * scale, middle + 38 * scale),
    ]


def _draw_central_airways(outside: Field, depth: Field, trunk: list[NDArray[np.float64]], grid: Grid) -> None:
    """Trachea and main bronchi: air outside the lungs with a wall; they are no lung."""
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
    grid: Grid, draw: Draw, lungs: NDArray[np.uint8], depth: Field, trunk: list[NDArray[np.float64]], scale: float
) -> Scene:
    """Parenchyma with its gravity gradient and texture; vessels, bronchi and fissures."""
    y = grid.axes[1]
    mode = (
        draw.uniform("healthy_hu", -900, -780)
        if not draw.chance("exhale", 0.2)
        else draw.uniform("exhale_hu", -780, -700)
    )
    slope = draw.uniform("gravity_hu", 15, 75)
    reach = float(np.abs(y).max())
    parenchyma = np.full(grid.shape, mode, np.float32) + slope * 0.7 * y / reach
    for i, (size, low, high) in enumerate(((2.2, 6, 16), (7.0, 4, 11), (30.0, 4, 12))):
        parenchyma += draw.uniform(f"texture_{i}_hu", low, high) * smooth_noise(
            draw.stream(3, i), grid.shape, grid.spacing_mm, size
        )
    vessels, lumen = np.zeros(grid.shape, np.float32), np.zeros(grid.shape, np.float32)
    density = draw.uniform("vessel_ends_per_ml", 1.0, 1.7)
    for number, hilum in ((1, trunk[2]), (2, trunk[3])):
        _draw_trees(vessels, lumen, grid, draw, (lungs == number) & (depth > 1.5), hilum, number, density)
    vessels = np.maximum(vessels, _fissures(grid, draw, lungs, scale))
    return Scene(
        parenchyma,
        vessels,
        lumen,
        lungs,
        depth,
        np.where(lungs > 0, 1, 0).astype(np.uint8),
        grid.spacing_mm,
        scale,
        draw.uniform("blood_hu", 30, 60)
        if not draw.chance("contrast", 0.25)
        else draw.uniform("contrast_hu", 120, 280),
    )


def _draw_trees(
    vessels: Field,
    lumen: Field,
    grid: Grid,
    draw: Draw,
    lung: NDArray[np.bool_],
    hilum: NDArray[np.float64],
    number: int,
    density: float,
) -> None:
    """Artery and vein of one lung, and bronchi beside the artery."""
    rng = draw.stream(4, number)
    n = int(np.clip(lung.sum() * np.prod(grid.spacing_mm) / 1000 * density, 40, 6000))
    walls, air = np.zeros_like(vessels), lumen
    for shift in (np.array([4.0, -4.0, 0.0]), np.array([-10.0, -8.0, 0.0])):
        tree = grow(rng, hilum + shift, scatter(rng, lung, grid.spacing_mm, n), tip_mm=0.42)
        draw_tubes(vessels, tree.start, tree.end, tree.radius, grid.spacing_mm)
        if shift[0] > 0:
            bronchi: Tree = beside(tree, rng, least_ends=8, ratio=0.8)
            outer = bronchi.radius * 1.15 + 0.45
            draw_tubes(walls, bronchi.start, bronchi.end, outer, grid.spacing_mm)
            draw_tubes(air, bronchi.start, bronchi.end, bronchi.radius, grid.spacing_mm)
    np.maximum(vessels, walls, out=vessels)


def _fissures(grid: Grid, draw: Draw, lungs: NDArray[np.uint8], scale: float) -> Field:
    """Thin sheets between the lobes."""
    z, y, _ = grid.axes
    height = float(z.max())
    voxel = float(np.mean(grid.spacing_mm))
    wave = 3 * scale * smooth_noise(draw.stream(5), grid.shape, grid.spacing_mm, 45 * scale)
    thick = draw.uniform("fissure_mm", 0.3, 0.9)
    share = np.zeros(grid.shape, np.float32)
    for number, level in ((1, 0.46), (2, 0.50)):
        slope = draw.uniform(f"fissure_slope_{number}", 0.8, 1.2)
        oblique = (z - level * height - slope * y) / np.float32(np.hypot(1, slope)) + wave
        part = sheet(oblique, thick, voxel)
        if number == 1:
            horizontal = z - draw.uniform("horizontal_fissure", 0.5, 0.56) * height + wave
            part = np.maximum(part, sheet(horizontal, thick, voxel) * (oblique > 0))
        share = np.where(lungs == number, part, share)
    return share
