"""What is wrong with a scan is measured and told; what is right is not."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from diffseglung.case.alignment import HealthyLevel
from diffseglung.io.plausibility import quality_notes
from diffseglung.quality.scan import Quality, merged, quality, warnings
from diffseglung.volume import Volume

LEVEL = HealthyLevel(-860.0, 0.0, 0.0)


def _body(spacing: tuple[float, float, float] = (2.8, 1.4, 1.4)) -> tuple[Volume, Volume]:
    """100 x 128 x 172 voxels: two elliptic lungs of 1.1 litres in a body in air, soft noise of 15 HU."""
    z, y, x = np.ogrid[:100, :128, :172]
    body = ((y - 64) / 57) ** 2 + ((x - 86) / 80) ** 2 < 1
    hu = np.where(body, 45.0, -1000.0) + np.zeros((100, 1, 1))
    lungs = np.zeros(hu.shape, np.uint8)
    for label, middle in ((1, 50), (2, 122)):
        lungs[((z - 50) / 42) ** 2 + ((y - 64) / 43) ** 2 + ((x - middle) / 27) ** 2 < 1] = label
    hu[lungs > 0] = -860
    hu += 15 * _grain(hu.shape)
    affine = np.zeros((4, 4))
    affine[[2, 1, 0, 3], [0, 1, 2, 3]] = [*spacing, 1]
    ct = Volume(np.clip(np.rint(hu), -1024, 3071).astype(np.float32), affine)
    return ct, ct.with_array(lungs)


def _grain(shape: tuple[int, ...], width: float = 0.7) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(shape), [0, width, width])
    return np.asarray(noise / noise.std())


@pytest.fixture(scope="module")
def good() -> tuple[Volume, Volume]:
    return _body()


def _told(ct: Volume, lungs: Volume, level: HealthyLevel = LEVEL) -> str:
    return " | ".join(warnings(quality(ct, lungs, level)))


def test_a_good_scan_is_measured_and_passes(good: tuple[Volume, Volume]) -> None:
    found = quality(*good, LEVEL)
    assert warnings(found) == []
    assert found.noise_hu == pytest.approx(15, rel=0.1)
    assert found.air_hu == pytest.approx(-1000, abs=4)
    assert found.blood_hu == pytest.approx(45, abs=3)
    assert found.right_hu == pytest.approx(-860, abs=6)
    assert found.left_hu == pytest.approx(-860, abs=6)
    assert found.lung_litres == pytest.approx(2 * 4 / 3 * np.pi * 42 * 43 * 27 * 5.488e-6, rel=0.02)
    assert found.trachea_hu is None
    assert json.loads(json.dumps(dataclasses.asdict(found)))["trachea_hu"] is None


def test_orientation_does_not_matter(good: tuple[Volume, Volume]) -> None:
    def turned(v: Volume) -> Volume:
        return Volume(v.array.transpose(2, 0, 1)[::-1], v.affine[:, [2, 0, 1, 3]] * [-1, 1, 1, 1])

    assert quality(*(turned(v) for v in good), LEVEL) == quality(*good, LEVEL)


def _spoilt(kind: str, ct: Volume, lungs: Volume) -> tuple[Volume, Volume]:
    hu, inside = ct.array.astype(float), lungs.array > 0
    grain = _grain(hu.shape)
    middle = np.zeros(hu.shape, bool)
    middle[:, 28:100, 75:97] = True
    changed: dict[str, Any] = {
        "noise": lambda: hu + 60 * grain,
        "sharp": lambda: hu + 35 * np.random.default_rng(1).standard_normal(hu.shape),
        "smooth": lambda: ndimage.gaussian_filter(hu, 2.0),
        "low": lambda: hu - 25,
        "high": lambda: hu + 25,
        "contrast": lambda: np.where(middle & ~inside, hu + 120, hu),
        "one side": lambda: np.where(lungs.array == 2, hu + 110, hu),
        "filled": lambda: np.where(inside & (np.arange(128)[:, None] > 57), hu + 500, hu),
        "clipped": lambda: np.maximum(hu, -900),
    }
    if kind in changed:
        return ct.with_array(np.clip(changed[kind](), -1024, 3071).astype(np.float32)), lungs
    if kind == "part":
        return tuple(v.crop((45, 0, 0), v.shape) for v in (ct, lungs))  # type: ignore[return-value]
    if kind == "half":
        gone = np.arange(100)[:, None, None] > 50
        return ct.with_array(np.where(gone, -1024, ct.array)), lungs.with_array(np.where(gone, 0, lungs.array))
    scale = {"thick": (2.0, 1, 1), "wide": (1, 1.5, 1.5), "squashed": (0.5, 1, 1)}[kind]
    affine = ct.affine @ np.diag([*scale, 1.0])
    return Volume(ct.array, affine), Volume(lungs.array, affine)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("noise", "HU (more than 40)"),
        ("sharp", "sharp kernel"),
        ("smooth", "the scan was smoothed"),
        ("low", "not calibrated"),
        ("high", "not calibrated"),
        ("contrast", "contrast medium"),
        ("one side", "the left -7"),
        ("filled", "is denser than -700 HU"),
        ("clipped", "no voxel is darker than -900 HU"),
        ("part", "cut off (lowest slice of the scan)"),
        ("half", "cut off (upper end, inside the scan)"),
        ("thick", "voxels are up to 5.6 mm apart"),
        ("wide", "pixels are 2.1 mm wide"),
        ("squashed", "covers only 140 mm"),
    ],
)
def test_each_defect_is_told(good: tuple[Volume, Volume], kind: str, words: str) -> None:
    assert words in _told(*_spoilt(kind, *good))


def test_expiration_is_told(good: tuple[Volume, Volume]) -> None:
    assert "healthy lung reads -700 HU" in _told(*good, HealthyLevel(-700.0, 0.0, 0.0))


def test_what_is_unknown_is_not_held_against_a_scan(good: tuple[Volume, Volume]) -> None:
    known = quality(*good, LEVEL)
    optional = [f.name for f in dataclasses.fields(Quality) if "None" in str(f.type)]
    assert len(optional) == 8
    assert warnings(dataclasses.replace(known, **dict.fromkeys(optional))) == []


def test_no_subject_is_told_twice(good: tuple[Volume, Volume]) -> None:
    ct, lungs = _spoilt("thick", *_spoilt("contrast", *_spoilt("high", *good)))
    found = quality(ct, lungs, LEVEL)
    assert len(warnings(found)) == 3
    header = ["contrast agent was given: vessels and enhancing tissue are denser than without contrast", "a flip"]
    assert merged([*header, *quality_notes(ct)], found) == [*header, *quality_notes(ct)]
    assert merged([], found) == warnings(found)
    assert merged(header, found) == [*header, *(w for w in warnings(found) if "contrast" not in w)]
