"""Which of several series is the scan: each criterion decides where all before it are equal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffseglung.io import read_scan
from diffseglung.io.dicom.choice import choose, find, rank, reason
from diffseglung.io.dicom.grid import normal_of
from diffseglung.io.dicom.headers import Slice, read_headers
from diffseglung.io.dicom.series import group
from diffseglung.platform.errors import InputError
from diffseglung.volume import Volume
from tests.io.conftest import write_series_of


@pytest.fixture
def template(tmp_path: Path) -> Slice:
    """The header of one thin axial slice."""
    affine = np.zeros((4, 4))
    affine[[2, 1, 0, 3], [0, 1, 2, 3]] = [1, 0.8, 0.7, 1]
    (path,) = write_series_of(tmp_path / "template", Volume(np.zeros((1, 8, 8), np.float32), affine))
    return read_headers(path)[0]


def make(template: Slice, number: int, *, count: int = 40, step: float = 5.0, **values: Any) -> list[Slice]:
    """Headers of a series, `count` slices `step` mm apart; further values as in `Slice`."""
    series = {
        "series_uid": f"1.2.{number}",
        "series_number": str(number),
        "kernel": "B30f",
        "thickness_mm": 1.0,
    } | values
    first = replace(template, **series)
    normal = normal_of(first.cosines, "x")
    return [replace(first, position=k * step * normal, sop_uid=f"1.2.{number}.{k}") for k in range(count)]


THIN = {"count": 100, "step": 2.0}
DERIVED = ("DERIVED", "SECONDARY", "MPR")
CORONAL = np.array([1.0, 0, 0, 0, 0, -1])
BETTER = {
    "axial over a longer coronal one": ({}, {"cosines": CORONAL, "count": 60}),
    "whole chest over a thin part": ({}, {"count": 40, "step": 1.0}),
    "original over a thin reformat": ({}, {**THIN, "image_type": DERIVED}),
    "original over secondary": ({}, {"image_type": ("ORIGINAL", "SECONDARY", "AXIAL")}),
    "thin and sharp over thick and soft": ({**THIN, "kernel": "B70f"}, {}),
    "thin at large distances is not thin": ({**THIN, "kernel": "B70f"}, {"step": 10.0, "count": 20}),
    "soft over sharp": ({**THIN}, {**THIN, "kernel": "LUNG", "count": 110}),
    "thin chest over a thick whole body": ({"count": 140, "step": 2.0}, {"count": 200, "step": 5.0}),
    "dense chest over a coarse whole body": ({"count": 420, "step": 1.0}, {"count": 450, "step": 2.0}),
    "longer": ({"count": 46}, {"count": 40}),
    "more slices": ({"count": 100, "step": 2.0}, {"count": 80, "step": 2.5}),
}


@pytest.mark.parametrize("name", BETTER)
@pytest.mark.parametrize("swapped", [False, True])
def test_better_series_is_taken(template: Slice, name: str, swapped: bool) -> None:
    better, worse = BETTER[name]
    numbers = (5, 2) if swapped else (2, 5)
    series = group([*make(template, numbers[0], **better), *make(template, numbers[1], **worse)])
    best = choose(series, "x")
    assert best.label == str(numbers[0])
    assert choose(series[::-1], "x") is best
    assert f"series {best.label} of 2 CT series was chosen" in reason(best, series)


def test_equal_series_are_left_to_the_user(template: Slice) -> None:
    series = group([*make(template, 2), *make(template, 3), *make(template, 4, kernel="B70f")])
    with pytest.raises(InputError, match=r"x holds 3 CT series: 2 \(Thorax, 40 slices\); 3 \(Thorax, 40") as caught:
        choose(series, "x")
    assert "4 (" not in str(caught.value)
    assert "--series" in caught.value.remedy


def test_patients_are_never_chosen_between(template: Slice) -> None:
    series = group([*make(template, 2), *make(template, 3, **THIN, patient_id="Another")])
    with pytest.raises(InputError, match="CT series of 2 patients"):
        choose(series, "x")


def test_studies_are_chosen_between_by_kind_not_by_length(template: Slice) -> None:
    images = [*make(template, 2, study_uid="1.5"), *make(template, 3, count=50, study_uid="1.6")]
    with pytest.raises(InputError, match="holds 2 CT series"):
        choose(group(images), "x")
    assert choose(group([*images, *make(template, 4, **THIN, study_uid="1.6")]), "x").label == "4"


def test_series_with_a_defect_is_passed_over_and_told(template: Slice) -> None:
    thin = make(template, 3, **THIN)
    del thin[50]
    series = group([*make(template, 2), *thin])
    best = choose(series, "x")
    assert best.label == "2"
    text = reason(best, series)
    assert "1 of the others cannot be used, of which series 3 would have been better" in text
    assert "lacks 1 of its slices" in text


def test_none_usable_names_each_reason(template: Slice) -> None:
    series = group([*make(template, 2, lossy=True), *make(template, 3, rescale_type="Z_EFF")])
    with pytest.raises(InputError, match=r"none can be used \(2: .*with loss.*; 3: .*RescaleType is Z_EFF"):
        choose(series, "x")


def test_wishes(template: Slice) -> None:
    images = [*make(template, 2), *make(template, 3)]
    assert find(group(images), "3", "x").label == "3"
    assert find(group(images), "1.2.2", "x").label == "2"
    with pytest.raises(InputError, match="x has no series 9"):
        find(group(images), "9", "x")
    images += make(template, 3, series_uid="1.2.99")
    with pytest.raises(InputError, match="x has 2 series with number 3") as caught:
        find(group(images), "3", "x")
    assert "SeriesInstanceUID" in caught.value.remedy


def test_rank_asks_for_most_of_the_longest(template: Slice) -> None:
    (series,) = group(make(template, 2))  # 200 mm
    assert rank(series, 300.0).whole
    assert not rank(series, 400.0).whole
    assert rank(series, 300.0) > rank(series, 400.0)


def test_note_tells_kernel_and_thickness_but_no_free_text(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    def second(dataset: Any, k: int) -> None:
        dataset.SeriesInstanceUID, dataset.SeriesNumber, dataset.ConvolutionKernel = "1.2.3.99", 8, "B70f"

    def first(dataset: Any, k: int) -> None:
        dataset.SeriesDescription, dataset.ConvolutionKernel = "Mr. Secret", "B30f"

    write_series(tmp_path / "a", upright, edit=first)
    write_series(tmp_path / "b", upright.with_array(upright.array + 4), edit=second)
    scan = read_scan(tmp_path)
    assert np.array_equal(scan.volume.array, upright.array)
    assert scan.notes[0] == (
        "series 3 of 2 CT series was chosen: axial, original, thin (thickness 2.5 mm, distance 2.5 mm), "
        "soft kernel (B30f), 12 slices"
    )
