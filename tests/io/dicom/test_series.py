"""What is told of a series, also of one that cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from diffseglung.io.dicom.reader import find_images
from diffseglung.io.dicom.series import group, is_sharp
from diffseglung.volume import Volume

SHARP = [
    "B60f",
    "B70f",
    "Br64d",
    "Bl57d",
    "B80s",
    "U75u",
    "LUNG",
    "BONEPLUS",
    "EDGE",
    "L",
    "YC",
    "FC51",
    "FC86",
    "Br64d/3",
]
SOFT = ["B30f", "B40f", "Br40d", "Br36f/2", "Qr40", "STANDARD", "SOFT", "B", "C", "FC08", "FC18", "I30f", "Hr40", ""]


@pytest.mark.parametrize("kernel", SHARP)
def test_sharp_kernels(kernel: str) -> None:
    assert is_sharp(kernel)


@pytest.mark.parametrize("kernel", SOFT)
def test_soft_kernels(kernel: str) -> None:
    assert not is_sharp(kernel)


def test_series_are_told_apart_by_uid_and_kind(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    def edit(dataset: Any, k: int) -> None:
        if k == 0:
            dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        if k > 9:
            dataset.SeriesInstanceUID, dataset.SeriesNumber = "1.2.9", 12

    write_series(tmp_path, upright, edit=edit)
    series = group(find_images(tmp_path))
    assert sorted((s.label, s.count, s.foreign) for s in series) == [
        ("12", 2, ""), ("3", 1, "no CT but localiser"), ("3", 9, ""),
    ]  # fmt: skip
    nine = next(s for s in series if s.count == 9)
    assert (nine.spacing_mm, nine.coverage_mm) == (2.5, 22.5)
    assert (nine.is_axial, nine.is_original, nine.is_thin, nine.is_sharp) == (True, True, True, False)
    assert nine.defect is None
    two = next(s for s in series if s.count == 2)
    assert two.defect is not None
    assert "only 2 slices" in two.defect.problem


def test_series_without_places_can_still_be_listed(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    def edit(dataset: Any, k: int) -> None:
        del dataset.ImagePositionPatient, dataset.ImageOrientationPatient

    write_series(tmp_path, upright, edit=edit)
    (series,) = group(find_images(tmp_path))
    assert (series.count, series.spacing_mm, series.coverage_mm, series.is_axial) == (12, None, 0.0, False)
    assert series.defect is not None
