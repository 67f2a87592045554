"""Models of consolidation: almost no gas, vessels are hidden, airways stay open (air bronchograms)."""

from __future__ import annotations

import numpy as np

from diffseglung.labels import CONSOLIDATION, GGO
from diffseglung.phantom.record import Draw
from diffseglung.phantom.region import Region
from diffseglung.phantom.texture import Field
from diffseglung.phantom.trees import draw_tubes, grow, scatter


def _solid(region: Region, draw: Draw, soft: Field) -> None:
    """Fill to 84..98 %, with a few aerated areas left."""
    fill = draw.uniform("solid_fill", 0.84, 0.98)
    gas = np.clip(region.noise(draw.rng, 5.0) - draw.uniform("aerated_above_sd", 1.3, 2.2), 0, 1)
    region.fill(soft * (fill - 0.35 * gas))


def _bronchograms(region: Region, draw: Draw, soft: Field) -> None:
    """Add air-filled branches in the solid part, besides the airways that exist."""
    where = soft > 0.9
    if where.sum() * np.prod(region.spacing) < 1500 or not draw.chance("air_bronchograms", 0.7):
        return
    count = draw.count("bronchogram_ends", 3, 10)
    targets = scatter(draw.rng, where, region.spacing, count)
    root = scatter(draw.rng, where, region.spacing, 1)[0]
    tree = grow(draw.rng, root, targets, tip_mm=draw.uniform("bronchogram_mm", 0.6, 1.2))
    air = np.zeros(region.shape, np.float32)
    draw_tubes(air, tree.start, tree.end, np.minimum(tree.radius, 2.2), region.spacing)
    lumen = region.lumen
    np.maximum(lumen, air * soft, out=lumen)


def lobar(region: Region, draw: Draw) -> None:
    """A large solid part of a lobe with a sharp border."""
    soft = region.weight(draw.uniform("border_mm", 1.0, 3.0))
    _solid(region, draw, soft)
    _bronchograms(region, draw, soft)
    region.label(soft > 0.5, CONSOLIDATION)


def patchy(region: Region, draw: Draw) -> None:
    """Ragged patches against the chest wall."""
    band = draw.uniform("band_mm", 10, 24) * region.parts.scale + 4
    ragged = draw.uniform("ragged_mm", 2.0, 5.0)
    signed = np.minimum(region.signed, band - region.depth + ragged * region.noise(draw.rng, 9.0))
    signed = np.minimum(signed, (region.noise(draw.rng, 14.0) + draw.uniform("patch_cover", 0.4, 1.2)) * 5)
    soft = region.weight(draw.uniform("border_mm", 1.0, 3.0), signed=signed)
    _solid(region, draw, soft)
    _bronchograms(region, draw, soft)
    region.label(soft > 0.5, CONSOLIDATION)


def organising(region: Region, draw: Draw) -> None:
    """A solid core or a solid ring (reversed halo) with ground glass around or inside it."""
    ring = draw.chance("reversed_halo", 0.5)
    halo = draw.uniform("halo_mm", 4, 9) * max(region.parts.scale, 0.6)
    outer = region.weight(draw.uniform("border_mm", 1.5, 4.0))
    depth_in = region.signed - halo
    core = region.weight(2.0, signed=depth_in + 0.8 * region.noise(draw.rng, 6.0))
    solid = np.clip(outer - core, 0, 1) if ring else core
    haze = core if ring else np.clip(outer - core, 0, 1)
    region.fill(haze * draw.uniform("halo_fill", 0.25, 0.45))
    _solid(region, draw, solid)
    region.label(outer > 0.5, GGO)
    region.label(solid > 0.5, CONSOLIDATION)
