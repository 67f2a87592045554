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
    frame = _frame(grid, draw, scale)
    shapes = _shapes(grid, draw, frame)
    depth = np.minimum.reduce([shapes["cage"], shapes["above"], shapes["spine"], shapes["mediastinum"], shapes["heart"]])
    depth = np.asarray(depth + 1.2 * smooth_noise(draw.stream(1), grid.shape, grid.spacing_mm, 22 * scale + 6), np.float32)
    outside = _body(grid, draw, shapes, frame)
    trunk = _trunk(grid, draw, frame)
    _draw_central_airways(outside, depth, trunk, grid)
    side = np.where(grid.axes[2] < frame.middle, 1, 2).astype(np.uint8)
    lungs = ((depth > 0) * side).astype(np.uint8)
    coverage = np.clip(depth / float(np.mean(grid.spacing_mm)) + 0.5, 0, 1)
    return Chest(outside, coverage, _lung_scene(grid, draw, lungs, depth, trunk, scale))


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
        """Level on which the heart lies."""
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


def _shapes(grid: Grid, draw: Draw, frame: Frame) -> dict[str, Field]:
    """Signed distances in mm, positive where lung may be; their minimum is the lung."""
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
    h = np.float32(draw.uniform("heart_size", 0.88, 1.12)) * scale
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
    return (np.sqrt((z / rz) ** 2 + (y / ry) ** 2 + (x / rx) ** 2) - 1) * min(rz, ry, rx)


def _body(grid: Grid, draw: Draw, shapes: dict[str, Field], frame: Frame) -> Field:
    """HU of everything that is not lung: wall, fat, ribs, spine, heart, liver, couch, air around."""
    z, y, x = grid.axes
    fat = draw.uniform("fat_mm", 6, 20) * max(frame.scale, 0.6)
    muscle = 20 * max(frame.scale, 0.6)
    wall = -shapes["cage"]
    skin = 1 - ((np.abs(x) / (frame.half_x + muscle + fat)) ** 2.5 + (np.abs(y - 6) / (frame.half_y + muscle + fat)) ** 2.5)
    skin = skin * frame.half_y / 2.5
    hu = np.full(grid.shape, -1000, np.float32)
    noise = smooth_noise(draw.stream(2), grid.shape, grid.spacing_mm, 9.0)
    np.copyto(hu, -100 + 8 * noise, where=(skin > 0) | (wall < 4))
    np.copyto(hu, 48 + 8 * noise, where=(wall < muscle + 4 * noise) | (skin > fat + 3 * noise))
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
            bronchi: Tree = beside(tree, rng, least_ends=12, ratio=0.62)
            outer = bronchi.radius * 1.12 + 0.4
            draw_tubes(walls, bronchi.start, bronchi.end, outer, grid.spacing_mm)
            draw_tubes(air, bronchi.start, bronchi.end, bronchi.radius, grid.spacing_mm)
    np.maximum(vessels, walls, out=vessels)


def _fissures(grid: Grid, draw: Draw, lungs: NDArray[np.uint8], scale: float) -> Field:
    """Thin sheets between the lobes."""
    z, y, x = grid.axes
    height = float(z.max())
    voxel = float(np.mean(grid.spacing_mm))
    wave = 5 * scale * smooth_noise(draw.stream(5), grid.shape, grid.spacing_mm, 45 * scale)
    wave = wave + 10 * scale * (np.abs(x) / np.float32(np.abs(x).max())) ** 2
    thick = draw.uniform("fissure_mm", 0.2, 0.55)
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
