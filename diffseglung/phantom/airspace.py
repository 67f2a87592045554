"""Models of ground-glass opacity: part of the gas is replaced; vessels and bronchi stay visible."""

from __future__ import annotations

import numpy as np

from diffseglung.labels import GGO
from diffseglung.phantom.record import Draw
from diffseglung.phantom.region import Region, blurred
from diffseglung.phantom.texture import balls, sheet
from diffseglung.phantom.trees import scatter


def geographic(region: Region, draw: Draw) -> None:
    """Whole hazy lobules beside normal ones."""
    fill = draw.uniform("ggo_fill", 0.17, 0.48)
    size = draw.uniform("lobule_mm", 10, 18) * max(region.parts.scale, 0.7)
    inside, wall = region.lobules(draw.rng, size, region.signed, size)
    soft = blurred(inside, region.spacing, draw.uniform("border_mm", 0.6, 1.6))
    grain = 1 + 0.14 * region.noise(draw.rng, 4.0) + 0.10 * region.noise(draw.rng, 12.0)
    region.fill(soft * region.lung * fill * np.clip(grain, 0.5, 1.6))
    region.vessels[:] += 0.25 * soft * sheet(wall, 0.5, region.voxel) * (1 - region.vessels)
    region.label(soft > 0.5, GGO)


def nodular(region: Region, draw: Draw) -> None:
    """Several soft, ill-defined nodules."""
    fill = draw.uniform("ggo_fill", 0.20, 0.5)
    count = draw.count("nodules", 3, 9)
    reach = region.signed > 0
    if not reach.any():
        return
    centres = scatter(draw.rng, reach, region.spacing, count)
    low, high = draw.uniform("nodule_small_mm", 3.5, 6), draw.uniform("nodule_large_mm", 7, 13)
    radii = draw.rng.uniform(low, high, count) * max(region.parts.scale, 0.7)
    _, signed = balls(centres, radii, region.shape, region.spacing)
    signed += 1.3 * region.noise(draw.rng, 6.0)
    soft = region.weight(draw.uniform("border_mm", 2.0, 5.0), signed=-signed)
    region.fill(soft * fill * np.clip(1 + 0.12 * region.noise(draw.rng, 3.5), 0.6, 1.4))
    region.label(soft > 0.5, GGO)


def crazy_paving(region: Region, draw: Draw) -> None:
    """Haze with a fine polygonal network; labelled GGO, not fibrosis, because of the haze."""
    fill = draw.uniform("ggo_fill", 0.22, 0.5)
    size = draw.uniform("paving_mm", 6, 11)
    soft = region.weight(draw.uniform("border_mm", 1.5, 4.0))
    _, wall = region.lobules(draw.rng, size, region.signed, 2.0)
    lines = sheet(wall, draw.uniform("line_mm", 0.5, 0.9), region.voxel) * draw.uniform("line_share", 0.35, 0.65)
    grain = np.clip(1 + 0.12 * region.noise(draw.rng, 4.0), 0.6, 1.4)
    region.fill(soft * np.maximum(fill * grain, lines + fill * 0.6))
    region.label(soft > 0.5, GGO)


def faint_gradient(region: Region, draw: Draw) -> None:
    """A wide dependent haze that fades slowly; its border in the truth is the drawn one."""
    fill = draw.uniform("ggo_fill", 0.15, 0.36)
    soft = region.weight(draw.uniform("fade_mm", 8, 16))
    grain = np.clip(1 + 0.12 * region.noise(draw.rng, 5.0) + 0.15 * region.noise(draw.rng, 18.0), 0.5, 1.5)
    region.fill(soft * fill * grain)
    region.label(soft > 0.5, GGO)
