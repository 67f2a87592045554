"""Models of fibrosis: a network of scar, cysts with walls, dilated airways, often with some ground glass."""

from __future__ import annotations

import numpy as np

from diffseglung.labels import FIBROSIS
from diffseglung.phantom.record import Draw
from diffseglung.phantom.region import Region
from diffseglung.phantom.texture import Field, sheet
from diffseglung.phantom.trees import draw_tubes, grow, scatter


def _band(region: Region, draw: Draw, low: float, high: float) -> Field:
    """Signed distance in mm of a subpleural band of irregular width, within the blob."""
    band = draw.uniform("band_mm", low, high) * region.parts.scale + 3
    ragged = draw.uniform("ragged_mm", 2.0, 5.0)
    return np.minimum(region.signed, band - region.depth + ragged * region.noise(draw.rng, 10.0))


def _network(region: Region, draw: Draw, signed: Field, *, size_mm: float, line_mm: float) -> Field:
    """Share of scar: walls of irregular cells, of varying thickness, with gaps."""
    _, wall = region.lobules(draw.rng, size_mm, signed, 2.0)
    wall = wall + 0.35 * region.noise(draw.rng, 2.5)
    lines = sheet(wall, line_mm, region.voxel)
    return np.asarray(lines * np.clip(0.8 + 0.5 * region.noise(draw.rng, 6.0), 0.15, 1.1), np.float32)


def reticulation(region: Region, draw: Draw) -> None:
    """Thick lines a few mm apart on a hazy background."""
    _net(region, draw, band_mm=(14, 34), mesh_mm=(4.5, 9), line_mm=(1.1, 2.0), haze=(0.0, 0.28), scar=(0.6, 0.9))


def sparse(region: Region, draw: Draw) -> None:
    """Thin lines far apart on nearly normal lung: recognisable by their pattern only."""
    _net(region, draw, band_mm=(18, 40), mesh_mm=(7, 13), line_mm=(0.7, 1.3), haze=(0.0, 0.06), scar=(0.5, 0.85))


def _net(region: Region, draw: Draw, **ranges: tuple[float, float]) -> None:
    """A net of scar below the pleura; the ranges are those of its parameters."""
    signed = _band(region, draw, *ranges["band_mm"])
    soft = region.weight(draw.uniform("border_mm", 1.5, 4.0), signed=signed)
    size, line = draw.uniform("mesh_mm", *ranges["mesh_mm"]), draw.uniform("line_mm", *ranges["line_mm"])
    scar = _network(region, draw, signed, size_mm=size, line_mm=line)
    haze = draw.uniform("haze_fill", *ranges["haze"])
    region.fill(soft * np.maximum(haze, draw.uniform("scar_fill", *ranges["scar"]) * scar))
    region.label(soft > 0.5, FIBROSIS)


def honeycomb(region: Region, draw: Draw) -> None:
    """Clustered cysts of 3 to 10 mm with shared walls, as dark inside as emphysema."""
    signed = _band(region, draw, 10, 28)
    soft = region.weight(draw.uniform("border_mm", 1.0, 2.5), signed=signed)
    size, line = draw.uniform("cyst_mm", 3.5, 9), draw.uniform("wall_mm", 0.9, 1.7)
    _, wall = region.lobules(draw.rng, size, signed, 2.0)
    walls = sheet(wall + 0.2 * region.noise(draw.rng, 2.5), line, region.voxel)
    inside = draw.uniform("cyst_hu", -985, -900) + 12 * region.noise(draw.rng, 8.0)
    parenchyma = region.parenchyma
    parenchyma += soft * (inside - parenchyma)
    region.fill(soft * draw.uniform("scar_fill", 0.7, 0.95) * walls)
    region.vessels[:] *= 1 - 0.5 * soft
    region.label(soft > 0.5, FIBROSIS)


def traction(region: Region, draw: Draw) -> None:
    """Fine mesh on ground glass with dilated, tortuous airways (NSIP-like)."""
    soft = region.weight(draw.uniform("border_mm", 2.0, 5.0))
    size, line = draw.uniform("mesh_mm", 3.5, 6.5), draw.uniform("line_mm", 0.6, 1.1)
    scar = _network(region, draw, region.signed, size_mm=size, line_mm=line)
    haze = draw.uniform("haze_fill", 0.12, 0.32)
    region.fill(soft * np.maximum(haze, draw.uniform("scar_fill", 0.5, 0.8) * scar))
    where = region.signed > 1.5
    if where.any():
        count = draw.count("traction_ends", 4, 14)
        root = scatter(draw.rng, where, region.spacing, 1)[0]
        tree = grow(
            draw.rng, root, scatter(draw.rng, where, region.spacing, count), tip_mm=draw.uniform("airway_mm", 1.0, 1.8)
        )
        bore = np.minimum(tree.radius, 3.0)
        wall, air = np.zeros(region.shape, np.float32), np.zeros(region.shape, np.float32)
        draw_tubes(wall, tree.start, tree.end, bore + 0.9, region.spacing)
        draw_tubes(air, tree.start, tree.end, bore, region.spacing)
        vessels, lumen = region.vessels, region.lumen
        np.maximum(vessels, wall * soft, out=vessels)
        np.maximum(lumen, air * soft, out=lumen)
    region.label(soft > 0.5, FIBROSIS)
