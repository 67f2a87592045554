"""Random patches: a piece of a background with synthetic lesions and confounders, imaged by a random scanner.

A patch takes less than a tenth of a second on one core, so no network has to see one twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diffseglung.case.alignment import align_to
from diffseglung.labels import CONSOLIDATION, EMPHYSEMA, FIBROSIS, GGO, HEALTHY
from diffseglung.phantom.backgrounds import SPACING_MM, Background
from diffseglung.phantom.canvas import UNKNOWN, Canvas
from diffseglung.phantom.confounders import draw_confounders
from diffseglung.phantom.random_lesions import draw_lesions
from diffseglung.phantom.texture import Field
from diffseglung.volume import Shape

EDGE = 6
"""Voxels drawn around a patch, because slices and kernels reach beyond it."""
FREE = 0.2
"""Share of patches without synthetic lesions; they keep the certain lesions of real scans."""
OFTEN = {EMPHYSEMA.id: 0.45, FIBROSIS.id: 0.5, GGO.id: 0.45, CONSOLIDATION.id: 0.35}
"""Label id -> probability that a patch with lesions contains the class."""
TURNED = 0.4
"""Share of patches that are rotated and stretched."""
INNER_MM, INNER, TRIES = 10.0, 0.8, 400
"""Minimum depth of the centre of a patch in the lung, share of patches it applies to, and attempts to find one."""
MAY_BREATHE_OUT_HU = -800.0
"""Healthy lung below this can be made denser, as in a shallower breath."""
LEVEL_SD_HU = 8.0
"""Standard deviation of the error of a scan's healthy level."""


@dataclass(frozen=True, eq=False)
class RandomPatch:
    """ct: (Z, Y, X) float32 aligned HU.  lung: bool.

    truth: uint8; label ids in the lung, 0 outside, UNKNOWN if no label is right.
    """

    ct: Field
    lung: NDArray[np.bool_]
    truth: NDArray[np.uint8]


def random_patch(backgrounds: Sequence[Background], rng: np.random.Generator, shape: Shape) -> RandomPatch:
    """Draw a patch of `shape` voxels (Z, Y, X)."""
    background = backgrounds[int(rng.integers(len(backgrounds)))]
    turned = bool(rng.random() < TURNED)
    size = tuple(int(n * (1.3 if turned else 1.0)) + 2 * EDGE for n in shape)
    box, outside = _box(background, rng, size)
    lungs = _cut(background.lungs, box, outside)
    canvas = Canvas(
        parenchyma=_cut(background.parenchyma, box, outside, "edge").astype(np.float32),
        vessels=_cut(background.vessels, box, outside).astype(np.float32) / 255,
        lumen=_cut(background.lumen, box, outside).astype(np.float32) / 255,
        lungs=lungs,
        depth=_cut(background.depth, box, outside).astype(np.float32),
        truth=_cut(background.truth, box, outside),
        spacing_mm=(SPACING_MM,) * 3,
        rng=rng,
    )
    hu = _cut(background.hu, box, outside, "edge").astype(np.float32)
    before = canvas.compose()
    right, left = np.pad(background.healthy[:, box[1]], ((0, 0), outside[1]), mode="edge")[:, None, :, None]
    draw_confounders(canvas, may_breathe_out=float(right.mean()) < MAY_BREATHE_OUT_HU)
    if rng.random() >= FREE:
        own = canvas.truth > HEALTHY.id
        names = [name for name, often in OFTEN.items() if rng.random() < often]
        draw_lesions(canvas, {name: int(rng.integers(1, 3)) for name in names})
        canvas.truth[own] = UNKNOWN  # two lesions in one place have no right label
    hu += ndimage.gaussian_filter(canvas.compose() - before, rng.uniform(0.3, 0.5), truncate=3)
    healthy = np.where(lungs == 2, left, right) + np.float32(rng.normal(0, LEVEL_SD_HU))
    ct = align_to(_scanned(hu, rng), healthy, float(background.air_hu[0]))
    lung = canvas.lung
    lung = lung & (canvas.depth > rng.uniform(-1, 2)) if rng.random() < 0.25 else lung
    fields = [ct, lung.astype(np.float32), np.where(lung, canvas.truth, 0).astype(np.float32)]
    fields = _turned(fields, rng, shape) if turned else [_middle(f, shape) for f in fields]
    flips = tuple(axis for axis, often in enumerate((0.2, 0.15, 0.5)) if rng.random() < often)
    ct, inside, truth = (np.ascontiguousarray(np.flip(f, flips)) for f in fields)
    return RandomPatch(ct, inside > 0.5, truth.astype(np.uint8))


def _box(
    background: Background, rng: np.random.Generator, size: tuple[int, ...]
) -> tuple[tuple[slice, ...], list[tuple[int, int]]]:
    """A box around a random lung voxel, and the voxels by which it exceeds the background on each side."""
    lungs, depth = background.lungs, background.depth
    least_mm = INNER_MM if rng.random() < INNER else 0.0
    for _ in range(TRIES):
        at = [int(rng.integers(n)) for n in lungs.shape]
        if lungs[tuple(at)] and depth[tuple(at)] > least_mm:
            break
    low = [a + int(rng.uniform(-0.35, 0.35) * n) - n // 2 for a, n in zip(at, size, strict=True)]
    box = tuple(slice(max(a, 0), min(a + n, m)) for a, n, m in zip(low, size, lungs.shape, strict=True))
    outside = [(max(-a, 0), max(a + n - m, 0)) for a, n, m in zip(low, size, lungs.shape, strict=True)]
    return box, outside


def _cut(values: NDArray[np.generic], box: tuple[slice, ...], outside: list[tuple[int, int]], mode: str = "constant"):  # type: ignore[no-untyped-def]
    piece = np.asarray(values[box])
    return np.pad(piece, outside, mode=mode) if any(map(any, outside)) else piece.copy()  # type: ignore[call-overload]


def _scanned(hu: Field, rng: np.random.Generator) -> Field:
    """Simulate slices of up to 7 mm, a soft or sharp kernel, and noise."""
    kind = rng.random()
    thick = 1.0 if kind < 0.4 else float(rng.uniform(1.0, 2.2) if kind < 0.75 else rng.uniform(2.2, 4.7))
    if thick > 1.05:
        hu = np.tensordot(_slices(len(hu), thick, rng), hu, axes=1).astype(np.float32)
    soft, edge = rng.uniform(0.2, 0.75), rng.uniform(0, 1.1) if rng.random() < 0.4 else 0.0
    hu = ndimage.gaussian_filter(hu, (0.2, soft, soft), truncate=3)
    if edge:
        hu = hu + np.float32(edge) * (hu - ndimage.gaussian_filter(hu, (0, 1.0, 1.0), truncate=3))
    strong = rng.random()
    sd = np.exp(rng.uniform(np.log(3), np.log(40))) if strong < 0.9 else rng.uniform(40, 75)
    noise = rng.standard_normal(hu.shape, np.float32)
    grain = rng.uniform(0, 0.9)
    noise = ndimage.gaussian_filter(noise, (rng.uniform(0, 0.6) if thick < 1.05 else 0.6, grain, grain), truncate=3)
    if rng.random() < 0.5:
        noise -= np.float32(rng.uniform(0.3, 0.9)) * ndimage.gaussian_filter(noise, (0, 1.2, 1.2), truncate=3)
    return np.asarray(hu + noise * np.float32(sd / max(float(noise.std()), 1e-6)), np.float32)


def _slices(count: int, thick: float, rng: np.random.Generator) -> Field:
    """Matrix (count, count): average over slices of `thick` voxels at a random phase, interpolated back linearly."""
    centres = np.arange(rng.uniform(-thick, 0), count + thick, thick)
    taken = np.clip((thick + 1) / 2 - np.abs(centres[:, None] - np.arange(count)), 0, 1)
    kept = taken.sum(1) > 0.3 * thick
    taken, centres = taken[kept] / taken[kept].sum(1, keepdims=True), centres[kept]
    places = np.interp(np.arange(count), centres, np.arange(len(centres)))
    lower = np.minimum(places.astype(int), len(centres) - 1)
    upper = np.minimum(lower + 1, len(centres) - 1)
    part = (places - lower)[:, None]
    return np.asarray((1 - part) * taken[lower] + part * taken[upper], np.float32)


def _turned(fields: list[Field], rng: np.random.Generator, shape: Shape) -> list[Field]:
    """Rotate around the long axis and stretch; linear for the first field, nearest voxel for the others."""
    angle, stretch = rng.uniform(-0.25, 0.25), rng.uniform(0.8, 1.2, 3)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    matrix = turn * stretch
    offset = (np.array(fields[0].shape) - 1) / 2 - matrix @ ((np.array(shape) - 1) / 2)
    return [
        ndimage.affine_transform(f, matrix, offset, shape, order=order, mode="nearest")
        for f, order in zip(fields, (1, 0, 0), strict=True)
    ]


def _middle(values: Field, shape: Shape) -> Field:
    """The patch without EDGE."""
    return values[tuple(slice(EDGE, EDGE + n) for n in shape)]
