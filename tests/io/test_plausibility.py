"""What is no CT in HU is refused with its reason; what limits a CT is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from diffseglung.io.plausibility import air_peak_hu, check_hu, cut_ends, quality_notes
from diffseglung.platform.errors import GeometryError, InputError
from diffseglung.volume import Volume


def _scan(*, spacing: tuple[float, float, float] = (2.5, 2.0, 2.0), air: float = -1000.0, sd: float = 10.0) -> Volume:
    """A body with lungs in air: 80 x 90 x 100 voxels."""
    hu = np.full((80, 90, 100), float(air))
    hu[:, 15:75, 10:90] = 40
    hu[8:70, 25:65, 18:45] = hu[8:70, 25:65, 55:82] = -860
    hu += np.random.default_rng(0).normal(0, sd, hu.shape)
    affine = np.zeros((4, 4))
    affine[[2, 1, 0, 3], [0, 1, 2, 3]] = [*spacing, 1]
    return Volume(np.rint(hu).astype(np.float32), affine)


def test_a_ct_passes_unchanged_but_for_padding() -> None:
    scan = _scan(sd=5)
    scan.array[:, :5] = -3024
    checked = check_hu(scan, "a")
    assert (checked.array[:, :5] == -1024).all()
    assert np.array_equal(checked.array[:, 5:], np.maximum(scan.array[:, 5:], -1024))
    assert quality_notes(scan) == []


def _spoilt(hu: np.ndarray, kind: str) -> np.ndarray:
    noise = np.random.default_rng(2).gamma(2, 150, hu.shape)
    spoilt: dict[str, Any] = {
        "nan": np.where(np.arange(hu.size).reshape(hu.shape) < 7, np.nan, hu),
        "inf": np.where(np.arange(hu.size).reshape(hu.shape) < 3, np.inf, hu),
        "constant": hu * 0 - 1000,
        "normalised": ((hu + 1000) / 700 - 1).clip(-1, 1),
        "unit range": ((hu + 1000) / 1400).clip(0, 1),
        "picture": ((hu + 1000) / 1400 * 255).clip(0, 255),
        "mask": (hu > -500) * 1.0,
        "labels": np.digitize(hu, [-900, -500, 0]) * 10.0,
        "labels of 16 bits": np.digitize(hu, np.linspace(-1000, 60, 40)) * 256.0,
        "offset 1024": (hu + 1024).clip(0),
        "offset 1000": (hu + 1000).clip(0),
        "mr": noise,
        "z-score": (hu + 400) / 450,
        "soft tissue": hu.clip(-160, 240),
        "twice rescaled": hu - 1100,
        "garbage": hu * 1e6,
    }
    return np.asarray(spoilt[kind], np.float32)


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("nan", "7 voxels that are NaN"),
        ("inf", "3 voxels that are NaN"),
        ("constant", "constant: every voxel is -1000"),
        ("normalised", "is normalised"),
        ("unit range", "is normalised"),
        ("picture", "image grey levels"),
        ("mask", "mask or label map"),
        ("labels", "mask or label map"),
        ("labels of 16 bits", "mask or label map"),
        ("offset 1024", "stored with an offset"),
        ("offset 1000", "stored with an offset"),
        ("mr", "as in MR"),
        ("z-score", "has no air"),
        ("soft tissue", "has no air"),
        ("twice rescaled", "has no tissue"),
        ("garbage", "which no CT has"),
    ],
)
def test_values_that_are_no_hu_are_refused(kind: str, word: str) -> None:
    scan = _scan()
    with pytest.raises(InputError, match=f"case-7 .*{word}") as caught:
        check_hu(scan.with_array(_spoilt(scan.array, kind)), "case-7")
    assert len(caught.value.remedy) > 10
    assert "\n" not in str(caught.value)


def test_offset_names_the_number_to_add() -> None:
    with pytest.raises(InputError) as caught:
        check_hu(_scan().with_array((_scan().array + 1024).clip(0)), "a")
    assert "-1024" in caught.value.remedy


@pytest.mark.parametrize(
    ("shape", "word"), [((1, 90, 100), "2D"), ((5, 90, 100), "only 5 slices"), ((80, 4, 100), "only 4 rows")]
)
def test_too_few_slices_are_refused(shape: tuple[int, int, int], word: str) -> None:
    with pytest.raises(InputError, match=word):
        check_hu(_scan().crop((0, 0, 0), shape), "a")


@pytest.mark.parametrize("spacing", [(2.5, 0.0007, 0.0007), (25, 1, 1), (2500, 700, 700)])
def test_impossible_spacing_is_refused(spacing: tuple[float, float, float]) -> None:
    with pytest.raises(GeometryError, match="impossible voxel spacing"):
        check_hu(_scan(spacing=spacing), "a")


def test_shear_is_refused() -> None:
    scan = _scan()
    affine = scan.affine.copy()
    affine[1, 0] = 0.5
    with pytest.raises(GeometryError, match="sheared"):
        check_hu(Volume(scan.array, affine), "a")


@pytest.mark.parametrize("air", [-1000.0, -1010.0, -990.0, -1035.0, -975.0])
def test_air_is_measured(air: float) -> None:
    found = air_peak_hu(_scan(air=air))
    assert found == pytest.approx(air, abs=3)
    assert any("not calibrated" in note for note in quality_notes(_scan(air=air))) == (abs(air + 1000) > 15)


def test_padding_is_not_taken_for_air() -> None:
    scan = _scan(air=-985)
    scan.array[:, :, :4] = -1024
    scan.array[:, :, -4:] = -1024
    assert air_peak_hu(scan) == pytest.approx(-985, abs=3)


def test_air_is_unknown_in_a_crop_of_the_body() -> None:
    assert air_peak_hu(_scan().crop((8, 15, 10), (70, 75, 90))) is None


def test_air_does_not_depend_on_orientation() -> None:
    scan = _scan(air=-980)
    turned = Volume(scan.array.transpose(2, 0, 1)[::-1], scan.affine[:, [2, 0, 1, 3]] * [-1, 1, 1, 1])
    assert air_peak_hu(turned) == air_peak_hu(scan)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"spacing": (5.0, 2.0, 2.0)}, "voxels are up to 5.0 mm apart"),
        ({"spacing": (1.0, 1.0, 1.0)}, "covers only 80 mm"),
        ({"air": -900.0, "sd": 5.0}, "no voxel is darker than -9"),
    ],
)
def test_limits_are_told(change: dict[str, Any], word: str) -> None:
    assert any(word in note for note in quality_notes(_scan(**change)))


def test_no_scan_is_said_to_be_clipped_for_its_lowest_value_alone() -> None:
    """Values that were cut off, a shifted scale, and a crop of the body without open air look alike there."""
    clipped = _scan().with_array(np.maximum(_scan().array, -900))
    shifted, crop = _scan(air=-900.0, sd=5.0), _scan().crop((8, 15, 10), (70, 75, 90))
    told = [[note for note in quality_notes(scan) if "no voxel is darker" in note] for scan in (clipped, shifted)]
    for (note,) in told:
        assert "dark values were cut off, the scale is shifted, or the scan holds no open air" in note
    assert not any("clipped" in note for scan in (clipped, shifted, crop) for note in quality_notes(scan))


def test_cuts_through_the_lungs_are_found_in_any_orientation() -> None:
    scan = _scan()
    array = (np.abs(scan.array + 860) < 60).astype(np.uint8)
    array[8:20] = 0
    for step in range(8, 20):  # lungs taper
        array[step, 45 - step : 45 + step, 30:34] = array[-step - 3, 45 - step : 45 + step, 30:34] = 1
    array[58:] = 0
    array[58:62, 44:47, 30:34] = 1
    lungs = scan.with_array(array)
    assert cut_ends(lungs) == []
    assert cut_ends(lungs.with_array(np.zeros_like(lungs.array))) == []
    part = lungs.crop((30, 0, 30), lungs.shape)
    turned = Volume(part.array.transpose(2, 0, 1)[::-1], part.affine[:, [2, 0, 1, 3]] * [-1, 1, 1, 1])
    for volume in (part, turned):
        assert cut_ends(volume) == ["lowest slice of the scan", "right of the scan"]


def test_lungs_that_end_where_slices_are_empty_are_cut() -> None:
    """The box of lung ends at its full width, eight slices above the lowest one."""
    scan = _scan()
    lungs = scan.with_array((np.abs(scan.array + 860) < 60).astype(np.uint8))
    assert cut_ends(lungs) == ["lower end, inside the scan", "upper end, inside the scan"]
