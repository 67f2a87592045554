"""Scan conditions of synthetic chests and real scans: standard, low dose, sharp kernel, thick slices, expiration."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diffseglung.phantom.record import Draw, Phantom
from diffseglung.phantom.scanner import Scanner
from diffseglung.phantom.texture import Field
from diffseglung.platform.errors import ConfigError
from diffseglung.volume import Reorientation, Volume

CONDITIONS = ("any", "standard", "low_dose", "sharp", "thick", "exhale")
EXHALE_SHARE = {"any": 0.2, "exhale": 1.0}
"""Probability of expiration; 0 in every other condition."""
NOISE_HU = {"low_dose": (42.0, 60.0), "sharp": (25.0, 45.0)}
"""Range of the noise of a synthetic chest; QUIET_HU in the other conditions."""
QUIET_HU = (15.0, 35.0)
RESCAN_NOISE_HU = {"low_dose": (45.0, 60.0), "sharp": (25.0, 40.0)}
"""Range of the noise of a real scan after `rescan`."""
SHARP, SOFT = (0.85, 1.0), (0.0, 0.6)
"""Ranges of `Scanner.sharpness`."""
THICK_MM = 5.0


def scanner_for(base: Scanner, condition: str, draw: Draw) -> Scanner:
    """The scanner of a condition, with the pixels and the calibration of `base`; "any" is `base` itself.

    `draw` must be an independent stream, so that one seed gives the same chest in every condition.
    """
    if condition not in CONDITIONS:
        raise ConfigError(f"condition is {condition!r}", remedy=f"choose one of {', '.join(CONDITIONS)}")
    if condition == "any":
        return base
    slice_mm = THICK_MM if condition == "thick" else draw.uniform("condition_slice_mm", 1.0, 2.5)
    sharpness = draw.uniform(f"{condition}_sharpness", *(SHARP if condition == "sharp" else SOFT))
    return dataclasses.replace(
        base,
        slice_mm=slice_mm,
        thickness_mm=slice_mm * base.thickness_mm / base.slice_mm,
        blur_mm=base.blur_mm + 0.12 * (base.sharpness - sharpness),
        sharpness=sharpness,
        noise_hu=draw.uniform(f"{condition}_noise_hu", *NOISE_HU.get(condition, QUIET_HU)),
    )


def rescan(case: Phantom, condition: str, *, seed: int = 0, split: str = "train") -> Phantom:
    """A case as if it had been scanned under another condition; "any" and "standard" leave it unchanged.

    low_dose: adds noise of a soft kernel in quadrature, to 45 to 60 HU in soft tissue.
    sharp:    adds overshoot at edges, and noise of a sharp kernel, to 25 to 40 HU.
    thick:    averages slices over 5 mm; masks take the label with the largest share. The result has canonical axes.
    Raises ConfigError for exhale: breath cannot be changed in an image.
    """
    if condition in ("any", "standard"):
        return case
    if condition not in CONDITIONS or condition == "exhale":
        raise ConfigError(
            f"a given scan cannot be rescanned as {condition!r}",
            remedy="choose one of any, standard, low_dose, sharp, thick",
        )
    draw = Draw(seed, split).aside(21)
    turn = Reorientation.of(case.ct)
    ct, lungs, truth = (turn.apply(volume) for volume in (case.ct, case.lungs, case.truth))
    if condition == "thick":
        ct, lungs, truth = _thickened(ct, lungs, truth)
        changed = Phantom(ct, lungs, truth, {})
    else:
        image = _noisier(np.asarray(ct.array, np.float32), ct.spacing_mm, condition, draw)
        changed = Phantom(case.ct.with_array(turn.undo(image)), case.lungs, case.truth, {})
    return dataclasses.replace(changed, meta=case.meta | {"condition": condition, "rescan": draw.record})


def tissue_noise_hu(hu: Field) -> float:
    """Standard deviation (HU) in soft tissue of a scan (Z, Y, X) of axial slices; NaN if it has no uniform soft tissue.

    Median over windows of 5 x 5 pixels that lie wholly within -50 to 150 HU.
    """
    window = (1, 5, 5)
    plain = (ndimage.minimum_filter(hu, window) > -50) & (ndimage.maximum_filter(hu, window) < 150)
    mean = ndimage.uniform_filter(hu.astype(np.float64), window)
    square = ndimage.uniform_filter(hu.astype(np.float64) ** 2, window)
    spread = np.sqrt(np.maximum(square - mean**2, 0) * 25 / 24)
    return float(np.median(spread[plain])) if plain.any() else float("nan")


def _noisier(hu: Field, spacing_mm: tuple[float, float, float], condition: str, draw: Draw) -> Field:
    """Add the overshoot of a sharp kernel, then noise up to the drawn standard deviation."""
    sharp = condition == "sharp"
    if sharp:
        width = [0.0, 1.1 / spacing_mm[1], 1.1 / spacing_mm[2]]
        gain = draw.uniform("rescan_overshoot", 0.6, 1.0)
        hu = hu + np.float32(gain) * (hu - ndimage.gaussian_filter(hu, width))
    has = tissue_noise_hu(hu)
    wants = draw.uniform(f"rescan_{condition}_noise_hu", *RESCAN_NOISE_HU[condition])
    added = float(np.sqrt(max(wants**2 - np.nan_to_num(has) ** 2, 0.0)))
    draw.record["rescan_noise_before_hu"] = round(has, 2) if np.isfinite(has) else None
    scanner = Scanner(
        in_plane_mm=float(np.mean(spacing_mm[1:])),
        slice_mm=spacing_mm[0],
        thickness_mm=spacing_mm[0],
        sharpness=draw.uniform(f"rescan_{condition}_sharpness", *(SHARP if sharp else SOFT)),
        noise_hu=added,
    )
    noisy = hu + scanner.noise(draw.rng, (hu.shape[0], hu.shape[1], hu.shape[2]))
    return np.asarray(np.clip(np.rint(noisy), -1024, 3071), np.float32)


def _thickened(ct: Volume, lungs: Volume, truth: Volume) -> tuple[Volume, Volume, Volume]:
    """Slices of THICK_MM from thinner ones, canonical axes; thicker ones are left unchanged."""
    plane_mm = ct.spacing_mm[0]
    if plane_mm >= THICK_MM:
        return ct, lungs, truth
    scanner = Scanner(slice_mm=THICK_MM, thickness_mm=THICK_MM)
    profiles = scanner.profiles(ct.shape[0], plane_mm)
    affine = ct.affine.copy()
    affine[:3, 3] += affine[:3, 0] * scanner.slice_centres(ct.shape[0], plane_mm)[0]
    affine[:3, 0] *= THICK_MM / plane_mm
    image = np.rint(np.tensordot(profiles, np.asarray(ct.array, np.float32), 1))
    inside = np.tensordot(profiles, (lungs.array > 0).astype(np.float32), 1) > 0.5
    sides = _majority(profiles, lungs.array, (1, 2))
    tissues = _majority(profiles, truth.array, (1, 2, 3, 4, 5))
    return Volume(image, affine), Volume(sides * inside, affine), Volume(tissues * inside, affine)


def _majority(profiles: Field, ids: NDArray[np.uint8], of: tuple[int, ...]) -> NDArray[np.uint8]:
    """The id in `of` with the largest share of each thick voxel."""
    shares = np.stack([np.tensordot(profiles, (ids == k).astype(np.float32), 1) for k in of])
    return np.asarray(np.asarray(of, np.uint8)[shares.argmax(0)], np.uint8)
