"""`add_lesions`: lesions of known extent in a real, near-normal scan, with the vessels, noise and blur of that scan."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diffseglung.phantom import lesions
from diffseglung.phantom.record import ChestParts, Draw, Phantom
from diffseglung.phantom.texture import Field
from diffseglung.platform.errors import GeometryError, InputError
from diffseglung.volume import Reorientation, Volume

BLOOD_HU = 40.0


def add_lesions(
    ct: Volume,
    lungs: Volume,
    seed: int = 0,
    *,
    split: str = "train",
    models: tuple[str, ...] = (),
    severity: str = "any",
) -> Phantom:
    """The scan with drawn lesions, on the same grid, in any orientation.

    ct:    HU. lungs: 0 outside, anything else inside (1 right, 2 left).
    split: family of parameter ranges and lesion models. models: names to draw instead of a random mix.
    severity: as in PhantomConfig.

    The scan is decomposed into parenchyma (a local low quantile without vessels) and vessels. Lesions change these
    two, and the difference, blurred like the scan, is added to the scan: noise is unchanged, ground glass keeps its
    vessels, and consolidation hides them. Truth is the drawn extent; the rest of the lung counts as healthy.
    Raises GeometryError for different grids, InputError for an empty mask.
    """
    if not ct.same_grid(lungs):
        raise GeometryError(
            f"the scan {ct.shape} and its lung mask {lungs.shape} lie on different grids",
            remedy="resample the mask onto the scan",
        )
    if not lungs.array.any():
        raise InputError("the lung mask is empty", remedy="give a mask of the lungs of this scan")
    turn = Reorientation.of(ct)
    hu, mask = turn.apply(ct).array, turn.apply(lungs).array
    box = _bounds(mask > 0, turn.apply(ct).spacing_mm)
    spacing = turn.apply(ct).spacing_mm
    parts = take_apart(np.ascontiguousarray(hu[box], np.float32), np.ascontiguousarray(mask[box]), spacing)
    draw = Draw(seed, split)
    before = parts.compose()
    records = lesions.add(parts, draw, names=models or None, severity=severity)
    sigma = [0.45, 0.55 / spacing[1], 0.55 / spacing[2]]
    change = ndimage.gaussian_filter(parts.compose() - before, sigma, truncate=3)
    image, truth = np.array(hu, np.float32), np.zeros(hu.shape, np.uint8)
    image[box] = np.clip(np.rint(image[box] + change), -1024, 3071)
    truth[box] = parts.truth
    meta = {
        "generator": "semisynthetic",
        "version": 1,
        "seed": seed,
        "split": split,
        "models": list(models),
        "severity": severity,
        "anatomy": draw.record,
        "lesions": records,
    }
    return Phantom(ct.with_array(turn.undo(image)), lungs, ct.with_array(turn.undo(truth)), meta)


def _bounds(mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> tuple[slice, ...]:
    """Bounding box of a mask with a margin of 6 mm."""
    slices = []
    for axis, step in enumerate(spacing_mm):
        hits = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        spare = int(np.ceil(6 / step))
        slices.append(slice(max(int(hits[0]) - spare, 0), min(int(hits[-1]) + spare + 1, mask.shape[axis])))
    return tuple(slices)


def take_apart(hu: Field, mask: NDArray[np.uint8], spacing_mm: tuple[float, float, float]) -> ChestParts:
    """Decompose a real scan (Z, Y, X) into parenchyma, vessel share, and depth below the lung surface."""
    lung = mask > 0
    if mask.max() == 1:  # a binary mask: split it at the midline
        middle = np.argwhere(lung.any(axis=(0, 1))).mean()
        mask = np.where(lung, np.where(np.arange(mask.shape[2]) < middle, 1, 2), 0)
    step = np.asarray(spacing_mm)
    smooth = ndimage.gaussian_filter(hu, 0.8 / step)
    coarse = tuple(slice(None, None, max(1, round(2.0 / s))) for s in spacing_mm)
    level = float(np.median(hu[lung]))
    filled = np.where(lung[coarse], np.clip(smooth[coarse], -1024, level + 120), level)
    size = [max(3, 2 * round(5.0 / (s * c.step)) + 1) for s, c in zip(spacing_mm, coarse, strict=True)]
    quantile = ndimage.percentile_filter(filled, 40, size=size)
    factors = [n / m for n, m in zip(hu.shape, quantile.shape, strict=True)]
    parenchyma = ndimage.zoom(quantile, factors, order=1, mode="nearest", grid_mode=True)[tuple(map(slice, hu.shape))]
    vessels = np.clip((smooth - parenchyma - 90) / (BLOOD_HU - parenchyma - 90), 0, 1)
    lumen = np.zeros_like(hu)
    depth = ndimage.distance_transform_edt(lung, spacing_mm).astype(np.float32)
    return ChestParts(
        parenchyma.astype(np.float32),
        vessels.astype(np.float32),
        lumen,
        np.asarray(mask, np.uint8),
        depth,
        lung.astype(np.uint8),
        spacing_mm,
        1.0,
        BLOOD_HU,
    )
