"""Lesions whose every property is random, so that a network learns the classes and not how they are drawn.

Domain randomisation (Tobin et al. 2017; SynthSeg, Billot et al. 2023): extent, border, density and texture are drawn
independently from ranges wider than in patients. The classes follow the Fleischner glossary (Hansell et al. 2008):

ground glass   haze that does not hide vessels; fine lines in it do not change the label while the haze dominates
consolidation  airless tissue that hides vessels; gas remains in bronchi or patches
fibrosis       nets of lines, cysts with walls, traction bronchiectasis; with or without haze
emphysema      lost tissue: uniform, in holes, in spaces between septa, at the pleura, as one large space

If the haze is as prominent as the lines, no label is right, and truth is UNKNOWN.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from diffseglung.labels import CONSOLIDATION, EMPHYSEMA, FIBROSIS, GGO
from diffseglung.phantom.canvas import OFF, TILE, UNKNOWN, Canvas, clipped
from diffseglung.phantom.region import Mask
from diffseglung.phantom.texture import Field

EXTENTS = ("blob", "blob", "scattered", "spheres", "pleural", "lobular", "layer")


def extent(canvas: Canvas, radius_mm: float) -> Field:
    """Signed mm to the border of a random extent, positive inside, OFF outside the lung."""
    kind = str(canvas.rng.choice(EXTENTS))
    sites = np.argwhere(canvas.lung)
    middle = np.asarray(sites[int(canvas.rng.integers(len(sites)))] * canvas.voxel, np.float64)
    squash = canvas.rng.uniform(0.65, 1.35, 3)
    z, y, x = (
        (np.arange(n, dtype=np.float64) * canvas.voxel - c) / q
        for n, c, q in zip(canvas.shape, middle, squash, strict=True)
    )
    z, y = z[:, None, None], y[:, None]
    signed = (radius_mm - np.sqrt(z**2 + y**2 + x**2)).astype(np.float32)
    signed += np.float32(canvas.between(0.08, 0.28) * radius_mm) * canvas.noise(0.6 * radius_mm + 3)
    signed += np.float32(canvas.between(0.4, 2.0)) * canvas.noise(5.0)
    if kind == "scattered":
        size = canvas.between(5, 18)
        signed = np.minimum(signed, (canvas.noise(size) + np.float32(canvas.between(-0.6, 0.9))) * np.float32(size / 2))
    elif kind == "spheres":
        low, count = canvas.between(2.0, 5.0), int(canvas.rng.integers(2, 15))
        _, signed = canvas.spheres(canvas.lung & (signed > 0), count, (low, low + canvas.between(0.5, 6.0)))
        signed = signed + np.float32(canvas.between(0, 1.6)) * canvas.noise(canvas.between(3, 8))
    elif kind == "pleural":
        signed = _under_pleura(canvas, signed, canvas.between(6, 34), canvas.between(5, 14))
    elif kind == "lobular":
        signed = _whole_lobules(canvas, signed)
    elif kind == "layer":
        normal = canvas.rng.standard_normal(3)
        a, b, c = normal / np.linalg.norm(normal)
        signed = np.minimum(signed + radius_mm, (a * z + b * y + c * x + canvas.noise(20.0)).astype(np.float32))
    return np.where(canvas.lung, signed, OFF).astype(np.float32)


def _under_pleura(canvas: Canvas, signed: Field, band_mm: float, ragged_mm: float) -> Field:
    """The part of an extent in an irregular subpleural band."""
    ragged = np.float32(canvas.between(1, 5)) * canvas.noise(ragged_mm)
    return np.asarray(np.minimum(signed, np.float32(band_mm) - canvas.depth + ragged), np.float32)


def _whole_lobules(canvas: Canvas, signed: Field) -> Field:
    """Whole cells whose mean lies in an extent."""
    number, _ = canvas.cells(canvas.between(8, 22))
    sums = np.bincount(number.ravel(), weights=np.clip(signed, -30, 30).ravel())
    means = sums / np.maximum(np.bincount(number.ravel()), 1)
    taken = ndimage.gaussian_filter((means[number] > 0).astype(np.float32), 0.7)
    return np.asarray(np.minimum(signed + 12, (taken - np.float32(0.5)) * 5), np.float32)


def ground_glass(canvas: Canvas) -> None:
    """Haze: uniform, grainy, lobular, with fine lines, or graded; vessels stay and may be wider."""
    signed = extent(canvas, canvas.scaled(7, 48))
    soft = canvas.weight(signed, canvas.scaled(0.7, 14))
    fill = canvas.scaled(0.10, 0.52)
    share = np.float32(fill) * canvas.grain(canvas.between(0.02, 0.22))
    kind = canvas.rng.random()
    if kind < 0.18:
        number, _ = canvas.cells(canvas.between(7, 20))
        levels = canvas.rng.uniform(0.55, 1.3, TILE).astype(np.float32)
        share = share * ndimage.gaussian_filter(levels[number % TILE], 0.6)
    elif kind < 0.34:
        size, thickness = canvas.between(4, 14), canvas.between(0.3, 0.9)
        lines = canvas.walls(size, thickness) if canvas.chance(0.6) else canvas.ridges(size, thickness)
        share = np.maximum(share, lines * np.float32(canvas.between(0.2, 0.55)) + np.float32(0.6 * fill))
    elif kind < 0.42:
        share = share * np.clip(1 - np.maximum(canvas.tubes(canvas.between(8, 20), 1.5), 0), 0, 1)
    canvas.fill(soft * share)
    if canvas.chance(0.3):
        canvas.vessels[:] = np.clip(canvas.vessels * (1 + np.float32(canvas.between(0, 0.6)) * soft), 0, 1)
    canvas.label(soft > 0.5, GGO.id)


def consolidation(canvas: Canvas) -> None:
    """Airless tissue with remaining bronchi or gas, with or without a halo or core of ground glass."""
    signed = extent(canvas, canvas.scaled(6, 40))
    soft = canvas.weight(signed, canvas.scaled(0.7, 6))
    solid, kind = soft, canvas.rng.random()
    if kind < 0.4:
        width = canvas.between(3, 12)
        core = canvas.weight(signed - np.float32(width) + canvas.noise(6.0), canvas.between(1, 4))
        rest = np.clip(soft - core, 0, 1)
        solid, haze = (rest, core) if kind < 0.08 else (core, rest)
        canvas.fill(haze * np.float32(canvas.scaled(0.15, 0.5)) * canvas.grain(0.1))
        canvas.label(soft > 0.5, GGO.id)
    gas = clipped(canvas.noise(canvas.between(3, 8)) - np.float32(canvas.between(1.0, 2.5)))
    filled = np.float32(canvas.between(0.74, 1.0)) * canvas.grain(canvas.between(0, 0.05))
    canvas.fill(solid * (filled - np.float32(canvas.between(0, 0.5)) * gas))
    if canvas.chance(0.6):
        bronchi = canvas.tubes(canvas.between(12, 30), canvas.between(0.5, 2.2))
        np.maximum(canvas.lumen, bronchi * solid * np.float32(canvas.between(0.6, 1)), out=canvas.lumen)
    if canvas.chance(0.1):
        cavity = canvas.weight(signed - np.float32(canvas.between(4, 14)), 1.5)
        canvas.empty(cavity * np.float32(canvas.between(0.8, 1)), 1.0)
        canvas.label(solid > 0.5, CONSOLIDATION.id)
        canvas.label(cavity > 0.5, UNKNOWN)
        return
    canvas.label(solid > 0.5, CONSOLIDATION.id)


def fibrosis(canvas: Canvas) -> None:
    """Nets of thick or thin lines of one or two meshes, with or without haze; cysts; dilated airways."""
    signed = extent(canvas, canvas.scaled(8, 48))
    if canvas.chance(0.4):
        signed = _under_pleura(canvas, signed, canvas.between(8, 34), 10.0)
    soft = canvas.weight(signed, canvas.scaled(0.8, 6))
    lines = _lines(canvas)
    strength, haze = canvas.between(0.5, 0.97), canvas.between(0, 0.34) if canvas.chance(0.7) else 0.0
    cysts = canvas.chance(0.42)
    behind = np.float32(haze) * canvas.grain(0.12)
    if cysts:
        behind *= 1 - _cysts(canvas, soft)
    canvas.fill(soft * np.maximum(behind, np.float32(strength) * lines))
    if canvas.chance(0.3):
        bore = canvas.tubes(canvas.between(9, 22), canvas.between(0.7, 2.2))
        wall = clipped(2 * ndimage.gaussian_filter(bore, 0.9) - bore) * soft
        np.maximum(canvas.vessels, wall * np.float32(canvas.between(0.2, 0.8)), out=canvas.vessels)
        np.maximum(canvas.lumen, bore * soft * np.float32(canvas.between(0.5, 1)), out=canvas.lumen)
    within = soft > 0.5
    hazy = haze > HAZY and not cysts and within.any()
    doubtful = hazy and strength * float(lines[within].mean()) < LINES_PER_HAZE * haze
    canvas.label(within, UNKNOWN if doubtful else FIBROSIS.id)


HAZY, LINES_PER_HAZE = 0.14, 0.45
"""Haze above this share may dominate; it does if the lines are below this share of the haze."""


def _lines(canvas: Canvas) -> Field:
    """Share of each voxel that is scar: nets of one or two meshes, of varying strength, with gaps."""
    lines = np.zeros(canvas.shape, np.float32)
    for _ in range(1 + canvas.chance(0.4)):
        size, thickness, kind = canvas.scaled(3.3, 14), canvas.scaled(0.55, 2.4), canvas.rng.random()
        if kind < 0.5:
            drawn = canvas.walls(size, thickness)
        else:
            drawn = canvas.ridges(size, thickness) if kind < 0.85 else canvas.tubes(size, thickness / 2)
        uneven = np.float32(canvas.between(0, 0.5)) * canvas.noise(canvas.between(5, 12))
        lines = np.maximum(lines, drawn * clipped(np.float32(canvas.between(0.6, 1.0)) + uneven, 0.1, 1.1))
    return lines


def _cysts(canvas: Canvas, soft: Field) -> Field:
    """Put gas between the lines, in all or parts of the lesion; returns its share of each voxel, 0 to 1."""
    part = soft
    if canvas.chance(0.4):
        part = part * (canvas.noise(canvas.between(8, 20)) > canvas.between(-0.8, 0.5))
    if canvas.chance(0.4):
        part = part * clipped((canvas.noise(canvas.between(3, 7)) - np.float32(canvas.between(-0.3, 0.6))) * 2 + 0.5)
    inside = np.float32(canvas.between(-990, -880)) + 12 * canvas.noise(8.0)
    canvas.parenchyma += part * (inside - canvas.parenchyma)
    canvas.vessels *= 1 - np.float32(canvas.between(0.2, 0.7)) * part
    return part


def emphysema(canvas: Canvas) -> None:
    """Lost tissue: uniform, in round or irregular holes, in spaces with septa, at the pleura, or one large space."""
    signed = extent(canvas, canvas.scaled(8, 48))
    inside, kind = signed > 0, canvas.rng.random()
    if not inside.any():
        return
    lost, where = np.zeros(canvas.shape, np.float32), inside
    if kind < 0.33:
        soft = canvas.weight(signed, canvas.scaled(1, 10))
        kept = np.clip(np.float32(canvas.between(0.3, 0.8)) * canvas.grain(canvas.between(0.03, 0.15)), 0.02, 1)
        lost, where = soft * (1 - kept), soft > 0.5
    elif kind < 0.6:
        low = canvas.between(1.1, 3.2)
        high = low + canvas.between(0.5, 4)
        volume = 4.19 * ((low + high) / 2) ** 3
        count = int(min(canvas.between(0.35, 1.0) * inside.sum() * canvas.voxel**3 / volume, 900)) + 1
        holes, _ = canvas.spheres(inside, count, (low, high))
        lost, where = holes * np.float32(canvas.between(0.6, 1.0)), _around(holes, canvas)
        if canvas.chance(0.3):
            lost = np.maximum(lost, canvas.weight(signed, 3.0) * np.float32(canvas.between(0, 0.3)))
    elif kind < 0.74:
        size = canvas.between(3, 9)
        holes = np.clip((canvas.noise(size) - np.float32(canvas.between(0, 0.8))) * np.float32(size / 1.3) + 0.5, 0, 1)
        holes = holes * inside * canvas.lung
        lost, where = holes * np.float32(canvas.between(0.65, 1.0)), _around(holes, canvas)
    else:
        if canvas.chance(0.5):
            signed = np.minimum(signed, np.float32(canvas.between(5, 20)) - canvas.depth)
        soft = canvas.weight(signed, canvas.between(0.7, 2))
        lost, where = soft * np.float32(canvas.between(0.7, 1.0)), soft > 0.5
    canvas.empty(lost, canvas.between(0.2, 1.0))
    if kind >= 0.74 and canvas.chance(0.75):
        septa = canvas.walls(canvas.scaled(5, 36), canvas.between(0.25, 0.9))
        canvas.fill(lost * septa * np.float32(canvas.between(0.15, 0.6)))
    canvas.label(where, EMPHYSEMA.id)


def _around(holes: Field, canvas: Canvas) -> Mask:
    """Where holes are dense enough to form one lesion."""
    return np.asarray(ndimage.gaussian_filter((holes > 0.5).astype(np.float32), 2.2 / canvas.voxel) > 0.28)


PAINT: dict[int, Callable[[Canvas], None]] = {
    EMPHYSEMA.id: emphysema,
    FIBROSIS.id: fibrosis,
    GGO.id: ground_glass,
    CONSOLIDATION.id: consolidation,
}
"""In drawing order: tissue with less gas hides what it covers."""


def draw_lesions(canvas: Canvas, wanted: dict[int, int]) -> None:
    """Draw lesions.  wanted: label id -> number of lesions."""
    if canvas.lung.any():
        for name, paint in PAINT.items():
            for _ in range(wanted.get(name, 0)):
                paint(canvas)
