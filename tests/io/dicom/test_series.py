"""What is told of a series, also of one that cannot be read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffseglung.io.dicom.headers import ENHANCED_CT, Slice, read_headers
from diffseglung.io.dicom.reader import find_images
from diffseglung.io.dicom.series import check, group, in_order, is_sharp, require_ct, require_long, unique
from diffseglung.platform.errors import InputError
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
        ("12", 2, ""), ("3", 1, "not a CT but localiser"), ("3", 9, ""),
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


@pytest.fixture
def stack(tmp_path: Path, upright: Volume, write_series: Any) -> list[Slice]:
    """Twelve good headers, in another order than their places."""
    return [image for path in sorted(write_series(tmp_path, upright)) for image in read_headers(path)]


def test_good_headers_give_the_grid(stack: list[Slice], upright: Volume) -> None:
    grid = check(stack, "x")
    assert grid.shape == upright.shape
    assert np.allclose(grid.affine, upright.affine)
    assert not grid.resampled
    heights = [item.position[2] for item in in_order(stack)]
    assert heights == sorted(heights)
    assert len(unique(in_order([*stack, *stack]))) == 12


NAN = np.array([0.0, np.nan, 0.0])
ONE_DIFFERS = {
    "patient": ({"patient_id": "B"}, "x mixes patients in one series"),
    "frame of reference": ({"frame_of_reference": "9"}, "x mixes frames of reference"),
    "time": ({"temporal": "2"}, "x holds 2 time points"),
    "stack": ({"stack": "2"}, "x holds 2 stacks"),
    "rows": ({"rows": 19}, "matrix size differs"),
    "no rows": ({"rows": 0}, r"has no matrix size \(Rows, Columns\)"),
    "spacing": ({"pixel_spacing": (0.8, 0.72)}, "PixelSpacing differs"),
    "no spacing": ({"pixel_spacing": ()}, "has no valid PixelSpacing"),
    "infinite spacing": ({"pixel_spacing": (0.8, np.inf)}, "has no valid PixelSpacing"),
    "orientation": ({"cosines": np.array([0.0, 1, 0, 1, 0, 0])}, "ImageOrientationPatient differs"),
    "no orientation": ({"cosines": np.array([])}, "has no valid ImageOrientationPatient"),
    "no position": ({"position": np.array([])}, "has no valid ImagePositionPatient"),
    "no number": ({"position": NAN}, "has no valid ImagePositionPatient"),
    "unit": ({"rescale_type": "EDW"}, "is not in HU: its RescaleType is EDW"),
    "loss": ({"lossy": True}, "compressed with loss"),
    "slope": ({"slope": 0.0}, "impossible RescaleSlope"),
    "no slope": ({"slope": None}, "has no RescaleSlope and RescaleIntercept"),
    "table": ({"lookup": True, "intercept": None}, "through a table"),
    "inverted": ({"photometric": "MONOCHROME1"}, "MONOCHROME1"),
    "atoms": ({"image_type": ("DERIVED", "PRIMARY", "Z_EFF")}, "atomic numbers"),
    "materials": ({"image_type": ("DERIVED", "PRIMARY", "AXIAL", "MAT_FRACTIONAL")}, "a material map"),
    "rendering": ({"technique": "VOLUME_RENDER"}, "projection or rendering"),
    "frames": ({"frames": 3}, "multi-frame"),
    "twin": ({"sop_uid": "1.2.826.0.1.3680043.8.498.1.1"}, "different images with one SOPInstanceUID"),
}


@pytest.mark.parametrize("name", ONE_DIFFERS)
def test_one_image_that_differs_is_enough(stack: list[Slice], name: str) -> None:
    values, pattern = ONE_DIFFERS[name]
    with pytest.raises(InputError, match=pattern) as caught:
        check([replace(item, **values) if k == 7 else item for k, item in enumerate(stack)], "x")
    assert caught.value.remedy
    assert "Secret" not in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        {"rescale_type": "HU"}, {"rescale_type": "US"}, {"photometric": ""}, {"study_uid": "9"},
        {"image_type": ("DERIVED", "PRIMARY", "AXIAL", "VMI")},
        {"image_type": ("DERIVED", "SECONDARY", "MONOENERGETIC")},
        {"slope": 2.0, "intercept": 0.0}, {"technique": "MPR"}, {"sop_uid": ""}, {"lookup": True},
    ],
)  # fmt: skip
def test_what_may_differ_and_still_be_hu(stack: list[Slice], values: dict[str, Any]) -> None:
    check([replace(item, **values) if k == 7 else item for k, item in enumerate(stack)], "x")


def test_frames_of_one_file_share_a_uid(stack: list[Slice]) -> None:
    frames = [
        replace(s, path=Path("a.dcm"), sop_uid="1", sop_class=ENHANCED_CT[0], frames=12, frame=k + 1)
        for k, s in enumerate(stack)
    ]
    assert check(frames, "x").shape[0] == 12
    with pytest.raises(InputError, match=r"^x was compressed with loss"):
        require_ct([replace(item, lossy=True) for item in frames], "x")


def test_least_number_of_slices() -> None:
    require_long(8, "x")
    with pytest.raises(InputError, match="x has only 7 slices"):
        require_long(7, "x")
