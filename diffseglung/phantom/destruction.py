"""Models of emphysema: tissue is lost without new walls; paraseptal spaces and bullae have thin septa."""

from __future__ import annotations

import numpy as np

from diffseglung.labels import EMPHYSEMA
from diffseglung.phantom.record import Draw
from diffseglung.phantom.region import Region, blurred
from diffseglung.phantom.texture import Field, balls, sheet
from diffseglung.phantom.trees import scatter


def _thin(region: Region, kept: Field, prune: float) -> None:
    """Keep a share (0..1) of the tissue, and remove `prune` times the lost share of the vessels."""
    parenchyma = region.parenchyma
    parenchyma[:] = -1000 + kept * (parenchyma + 1000)
    region.vessels[:] *= 1 - prune * (1 - kept)


def centrilobular(region: Region, draw: Draw) -> None:
    """Many round holes of a few mm in otherwise normal lung, dense enough to form one area."""
    low, high = draw.uniform("hole_small_mm", 1.2, 2.0), draw.uniform("hole_large_mm", 2.4, 4.6)
    reach = region.signed > 0
    if not reach.any():
        return
    volume = reach.sum() * np.prod(region.spacing)
    mean = (low + high) / 2
    cover = draw.uniform("hole_cover", 0.45, 0.9)
    count = int(min(cover * volume / (4.19 * mean**3), 4000)) + 1
    centres = scatter(draw.rng, reach, region.spacing, count)
    holes, _ = balls(centres, draw.rng.uniform(low, high, count), region.shape, region.spacing)
    kept = 1 - holes * region.lung * (1 - draw.uniform("kept", 0.05, 0.35))
    _thin(region, kept, 0.6)
    region.label(blurred(holes * region.lung > 0.5, region.spacing, 2.2) > 0.28, EMPHYSEMA)


def panlobular(region: Region, draw: Draw) -> None:
    """Uniform mild loss over a wide area: a few tens of HU, no holes, fewer vessels."""
    soft = region.weight(draw.uniform("fade_mm", 2.0, 7.0))
    kept = draw.uniform("kept", 0.42, 0.70)
    grain = np.clip(1 + 0.10 * region.noise(draw.rng, 6.0), 0.7, 1.3)
    _thin(region, 1 - soft * (1 - kept * grain), 0.7)
    region.label(soft > 0.5, EMPHYSEMA)


def _spaces(region: Region, draw: Draw, signed: Field, *, size_mm: float, septum_mm: float) -> None:
    """Adjacent air spaces with thin septa between them."""
    soft = region.weight(1.0, signed=signed)
    _, distance = region.lobules(draw.rng, size_mm, signed, 3.0)
    septa = sheet(distance, septum_mm, region.voxel)
    kept, wall = draw.uniform("kept", 0.02, 0.25), draw.uniform("septum_share", 0.25, 0.6)
    parenchyma = region.parenchyma
    _thin(region, 1 - soft * (1 - kept), 0.95)
    parenchyma += wall * septa * soft * (0.0 - parenchyma)
    region.label(soft > 0.5, EMPHYSEMA)


def paraseptal(region: Region, draw: Draw) -> None:
    """One or two rows of air spaces under the pleura."""
    row = draw.uniform("row_mm", 6, 13) * max(region.parts.scale, 0.7)
    signed = np.minimum(region.signed, row - region.depth + 1.5 * region.noise(draw.rng, 7.0))
    size = draw.uniform("space_mm", 6, 12) * max(region.parts.scale, 0.7)
    _spaces(region, draw, signed, size_mm=size, septum_mm=draw.uniform("septum_mm", 0.3, 0.7))


def bullous(region: Region, draw: Draw) -> None:
    """A few large, nearly empty spaces with hairline walls."""
    size = draw.uniform("bulla_mm", 18, 36) * max(region.parts.scale, 0.5)
    inside, _ = region.lobules(draw.rng, size, region.signed - 0.2 * region.radius_mm, size)
    signed = (blurred(inside, region.spacing, 1.2) - 0.5) * 4
    _spaces(region, draw, signed, size_mm=size, septum_mm=draw.uniform("septum_mm", 0.4, 0.8))
