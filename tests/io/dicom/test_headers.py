"""One file's images: an enhanced multi-frame file is read like the classic series that it was made from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless, RLELossless, generate_uid

from diffseglung.io import read_scan, read_volume
from diffseglung.io.dicom.headers import read_headers
from diffseglung.io.dicom.reader import find_images, list_series
from diffseglung.io.dicom.stack import read_images
from diffseglung.platform.errors import InputError
from diffseglung.volume import Volume
from tests.io.dicom_defects import good_volume, put, write_good

ENHANCED = "1.2.840.10008.5.1.4.1.1.2.1"
Edit = Callable[[Any], object]


def item(**values: Any) -> Dataset:
    """A data set with these attributes."""
    found = Dataset()
    for tag, value in values.items():
        setattr(found, tag, value)
    return found


def enhanced(path: Path, planes: range = range(12), edit: Edit | None = None, frame: Callable | None = None) -> Path:
    """An Enhanced CT of slices of the good volume, frames in another order than positions; `frame(group, k)` edits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    volume, first = good_volume(), pydicom.dcmread(write_good(path.parent / "classic")[0])
    for file in (path.parent / "classic").iterdir():
        file.unlink()
    order = [planes[(5 * k) % len(planes)] for k in range(len(planes))] if len(planes) % 5 else list(planes)
    for tag in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "RescaleSlope"):
        del first[tag]
    del first.RescaleIntercept, first.RescaleType, first.ConvolutionKernel, first.InstanceNumber
    first.SOPClassUID, first.SOPInstanceUID, first.NumberOfFrames = ENHANCED, f"1.2.5.{planes[0] + 1}", len(planes)
    shared = item(
        PlaneOrientationSequence=Sequence([item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])]),
        PixelMeasuresSequence=Sequence([item(PixelSpacing=[0.8, 0.7], SliceThickness=2.0)]),
        CTReconstructionSequence=Sequence([item(ConvolutionKernel="Br40d")]),
        CTXRayDetailsSequence=Sequence([item(KVP=120.0)]),
    )
    groups, stored = [], []
    for place, k in enumerate(order):
        slope = 1.0 if place % 2 else 0.5  # each frame has its own
        position = [float(v) for v in volume.affine[:3, 3] + k * volume.affine[:3, 0]]
        rescale = item(RescaleSlope=slope, RescaleIntercept=-1024, RescaleType="HU")
        group = item(
            FrameContentSequence=Sequence([item(StackID="1", InStackPositionNumber=k + 1)]),
            PlanePositionSequence=Sequence([item(ImagePositionPatient=position)]),
            PixelValueTransformationSequence=Sequence([rescale]),
            CTImageFrameTypeSequence=Sequence([item(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])]),
        )
        if frame is not None:
            frame(group, k)
        groups.append(group)
        stored.append((volume.array[k] + 1024) / slope)
    first.SharedFunctionalGroupsSequence, first.PerFrameFunctionalGroupsSequence = Sequence([shared]), Sequence(groups)
    first.PixelData = np.stack(stored).astype("<i2").tobytes()
    first.file_meta.MediaStorageSOPClassUID, first.file_meta.TransferSyntaxUID = ENHANCED, ExplicitVRLittleEndian
    if edit is not None:
        edit(first)
    first.save_as(path, enforce_file_format=True)
    return path


def require_good(path: Path) -> Any:
    """The scan at `path` is the good volume."""
    scan, wanted = read_scan(path), good_volume()
    assert np.array_equal(scan.volume.array, wanted.array)
    assert np.allclose(scan.volume.affine, wanted.affine)
    return scan


def test_enhanced_ct_is_read_frame_by_frame(tmp_path: Path) -> None:
    path = enhanced(tmp_path / "s" / "ct.dcm")
    scan = require_good(tmp_path / "s")
    assert [frame.path for frame in scan.frames] == [path] * 12
    assert sorted(frame.number for frame in scan.frames) == list(range(1, 13))
    assert scan.frames[1].number == 6  # the second slice was stored as the sixth frame
    assert (scan.source["kernel"], scan.source["tube_kv"], scan.source["slices"]) == ("Br40d", 120.0, 12)
    require_good(path)
    (row,) = list_series(tmp_path / "s")
    assert (row["slices"], row["spacing_mm"], row["original"], row["problem"]) == (12, 2.0, True, None)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_compressed_frames(tmp_path: Path, syntax: str) -> None:
    path = enhanced(tmp_path / "s" / "ct.dcm", edit=lambda d: d.compress(syntax, generate_instance_uid=False))
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax
    require_good(path)


def test_several_files_make_one_series(tmp_path: Path) -> None:
    for name, planes in (("b", range(0, 4)), ("a", range(4, 11)), ("c", range(11, 12))):
        enhanced(tmp_path / "s" / f"{name}.dcm", planes)
    scan = require_good(tmp_path / "s")
    assert [frame.path.stem for frame in scan.frames] == ["b"] * 4 + ["a"] * 7 + ["c"]


def test_legacy_converted_ct_is_read(tmp_path: Path) -> None:
    files = write_good(tmp_path / "classic")
    values = {"StudyDate": "20200101", "StudyTime": "101010", "StudyID": "1", "AccessionNumber": "1"}
    empty = ("Manufacturer", "PatientBirthDate", "PatientSex", "ReferringPhysicianName", "PositionReferenceIndicator")
    put(files, **dict.fromkeys(empty, ""), **values)
    converted = hd.legacy.LegacyConvertedEnhancedCTImage(
        [pydicom.dcmread(path) for path in files], generate_uid(), 1, generate_uid(), 1
    )
    converted.save_as(tmp_path / "one.dcm")
    for path in files:
        path.unlink()
    scan = require_good(tmp_path / "one.dcm")
    assert scan.source["kernel"] == "B30f"
    assert len(scan.frames) == 12


def test_frames_of_several_times_are_refused(tmp_path: Path) -> None:
    def frame(group: Any, k: int) -> None:
        group.FrameContentSequence[0].TemporalPositionIndex = 1 + k // 6

    with pytest.raises(InputError, match="holds 2 time points in one series"):
        read_scan(enhanced(tmp_path / "ct.dcm", frame=frame))


def test_frames_of_several_stacks_are_refused(tmp_path: Path) -> None:
    def frame(group: Any, k: int) -> None:
        group.FrameContentSequence[0].StackID = str(1 + k // 6)

    with pytest.raises(InputError, match="holds 2 stacks in one series"):
        read_scan(enhanced(tmp_path / "ct.dcm", frame=frame))


def test_other_units_of_one_frame_are_refused(tmp_path: Path) -> None:
    def frame(group: Any, k: int) -> None:
        if k == 3:
            group.PixelValueTransformationSequence[0].RescaleType = "ED"

    with pytest.raises(InputError, match="its RescaleType is ED"):
        read_scan(enhanced(tmp_path / "ct.dcm", frame=frame))


def test_frames_turned_against_each_other_are_refused(tmp_path: Path) -> None:
    def frame(group: Any, k: int) -> None:
        if k > 7:
            group.PlaneOrientationSequence = Sequence([item(ImageOrientationPatient=[1, 0, 0, 0, 0, -1])])

    with pytest.raises(InputError, match="ImageOrientationPatient differs"):
        read_scan(enhanced(tmp_path / "ct.dcm", frame=frame))


def test_fewer_groups_than_frames_is_damage(tmp_path: Path) -> None:
    path = enhanced(tmp_path / "ct.dcm", edit=lambda d: d.PerFrameFunctionalGroupsSequence.pop())
    with pytest.raises(InputError, match=r"ct\.dcm is damaged: its header cannot be read \(12 frames, 11"):
        read_scan(path)


def test_projection_by_its_technique_is_refused(tmp_path: Path) -> None:
    def edit(dataset: Any) -> None:
        dataset.SharedFunctionalGroupsSequence[0].CTImageFrameTypeSequence = Sequence(
            [item(VolumeBasedCalculationTechnique="MAX_IP")]
        )

    with pytest.raises(InputError, match="MAX_IP"):
        read_scan(enhanced(tmp_path / "ct.dcm", edit=edit))


def test_lone_frame_file_is_listed(tmp_path: Path) -> None:
    headers = read_headers(enhanced(tmp_path / "ct.dcm", range(3, 4)))
    assert [(header.frame, header.slope, header.kernel) for header in headers] == [(1, 0.5, "Br40d")]


def test_file_of_another_kind_has_no_images(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "b").write_bytes(b"\x08\0\x05\0")
    assert read_headers(tmp_path / "a.txt") == ()
    assert read_headers(tmp_path / "b") == ()


def test_agrees_with_highdicom(tmp_path: Path) -> None:
    """Another reader finds the same HU at the same places."""
    path = enhanced(tmp_path / "ct.dcm", edit=lambda d: d.update({"DimensionOrganizationType": "3D"}))
    theirs = hd.imread(path).get_volume(dtype=np.float64).flip_spatial(0)  # its slices run from head to feet
    ours = read_scan(path).volume
    assert theirs.shape == ours.shape
    corners = np.array([[0, 0, 0, 1], [11, 0, 0, 1], [0, 15, 0, 1], [0, 0, 15, 1]]).T
    assert np.allclose(theirs.affine @ corners, ours.affine @ corners, atol=1e-4)
    assert np.allclose(theirs.array, ours.array)


def test_header_holds_plain_values(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    path = write_series(tmp_path, upright)[2]
    (header,) = read_headers(path)
    assert not header.foreign
    assert (header.rows, header.columns, header.series_number) == (20, 24, "3")
    assert header.pixel_spacing == (0.8, 0.7)
    assert np.allclose(header.position, upright.affine[:3, 3] + 2 * upright.affine[:3, 0])
    assert header.tube_kv is None
    assert np.array_equal(next(read_images([header])), upright.array[2])


def test_other_files_have_no_header(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    assert read_headers(tmp_path / "a.txt") == ()


@pytest.mark.parametrize(
    ("tag", "value"), [("PixelSpacing", b"0.8]0.7 "), ("ImagePositionPatient", b"1\\2\\x "), ("Rows", b"\1")]
)
def test_damaged_header_is_named(tmp_path: Path, upright: Volume, write_series: Any, tag: str, value: bytes) -> None:
    paths = write_series(tmp_path, upright)
    dataset = pydicom.dcmread(paths[11])
    element = pydicom.dataelem.RawDataElement(
        pydicom.tag.Tag(tag), pydicom.datadict.dictionary_VR(tag), len(value), value, 0, False, True
    )
    dataset._dict[element.tag] = element
    dataset.save_as(paths[11])
    with pytest.raises(InputError, match=f"{paths[11].name} is damaged: its header"):
        read_volume(tmp_path)
    assert len(find_images(tmp_path)) == 11


@pytest.mark.parametrize("kind", [["ORIGINAL", "PRIMARY", "LOCALIZER"], ["DERIVED", "SECONDARY", "LOCALIZER"]])
def test_localisers_are_no_slices(tmp_path: Path, upright: Volume, write_series: Any, kind: list[str]) -> None:
    path = write_series(tmp_path, upright, edit=lambda d, k: setattr(d, "ImageType", kind))[0]
    (header,) = read_headers(path)
    assert header.foreign


def test_text_stays_on_one_line(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    path = write_series(tmp_path, upright)[0]
    content = path.read_bytes().replace(b"Thorax", b"Th\n\x1bax")
    path.write_bytes(content)
    (header,) = read_headers(path)
    assert header.description == "Th  ax"


def test_screenshots_are_no_slices(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    uid = pydicom.uid.SecondaryCaptureImageStorage
    path = write_series(tmp_path, upright, edit=lambda d, k: setattr(d, "SOPClassUID", uid))[0]
    (header,) = read_headers(path)
    assert header.foreign
