"""The DICOM Segmentation holds the label map: each voxel at its place in the patient, each class with its name."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image

from diffseglung import output
from diffseglung.io.scan import Frame
from diffseglung.labels import TISSUES
from diffseglung.output import Products
from diffseglung.output.dicom import NAMES, codes
from diffseglung.output.dicom.source import CARRIED
from diffseglung.platform.errors import OutputError
from diffseglung.segmentation import Segmentation
from tests.output.dicom.conftest import Labelled

ALL = Products(preview=False, report=False, dicom=("seg", "sr", "sc"))
SEG_ONLY = Products(preview=False, report=False, dicom=("seg",))
SEG_AND_REPORT = Products(preview=False, report=False, dicom=("seg", "sr"))


def validated(path: Path) -> list[str]:
    """Errors that dciodvfy finds; skips where it is not installed."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("no dciodvfy on this machine (Debian: apt-get install dicom3tools)")
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, errors="replace", check=False)
    lines = (done.stdout + done.stderr).splitlines()
    assert any(name in done.stderr + done.stdout for name in ("Segmentation", "Comprehensive3DSR", "SCImage")), lines
    return [line for line in lines if line.startswith("Error")]


@pytest.mark.parametrize("name", NAMES.values())
def test_an_independent_validator_finds_no_error(written: Path, name: str) -> None:
    assert validated(written / name) == []


def test_the_validator_is_not_blind(written: Path, tmp_path: Path) -> None:
    item = pydicom.dcmread(written / NAMES["seg"])
    del item.SegmentSequence[0].SegmentLabel
    item.save_as(tmp_path / "broken.dcm")
    assert validated(tmp_path / "broken.dcm")


def test_each_voxel_lies_where_the_label_map_has_it(written: Path) -> None:
    """Read by highdicom: the position of every voxel of every segment, in mm."""
    item = hd.seg.segread(written / NAMES["seg"])
    volume = item.get_volume(combine_segments=True)
    nifti = nib.load(written / "label_map.nii.gz")
    ours = np.asarray(nifti.dataobj)
    points = np.argwhere(volume.array > 0)
    assert len(points) == (ours > 0).sum() > 1000
    lps = points @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    back = np.linalg.inv(nifti.affine) @ np.diag([-1, -1, 1, 1]) @ np.column_stack([lps, np.ones(len(lps))]).T
    index = np.rint(back[:3]).astype(int)
    np.testing.assert_allclose(back[:3], index, atol=2e-3)
    np.testing.assert_array_equal(ours[tuple(index)], volume.array[tuple(points.T)])


def test_a_second_library_reads_the_label_map_back(written: Path, tmp_path: Path) -> None:
    """dcmqi, which builds on DCMTK and ITK and shares no code with what wrote the file."""
    reader = Path(sys.executable).with_name("segimage2itkimage")
    if not reader.exists():
        pytest.skip("dcmqi is not installed")
    options = ["--inputDICOM", written / NAMES["seg"], "--outputDirectory", tmp_path, "-t", "nii", "--mergeSegments"]
    subprocess.run([reader, *options], check=True, capture_output=True)
    theirs, ours = nib.load(next(tmp_path.glob("*.nii.gz"))), nib.load(written / "label_map.nii.gz")
    found = np.argwhere(np.asarray(theirs.dataobj) > 0)
    assert len(found) == (np.asarray(ours.dataobj) > 0).sum()
    world = found @ theirs.affine[:3, :3].T + theirs.affine[:3, 3]
    index = np.rint(np.linalg.inv(ours.affine)[:3] @ np.column_stack([world, np.ones(len(world))]).T).astype(int)
    np.testing.assert_array_equal(np.asarray(ours.dataobj)[tuple(index)], np.asarray(theirs.dataobj)[tuple(found.T)])


def test_segments_are_the_classes_with_codes_and_colours(written: Path) -> None:
    item = hd.seg.segread(written / NAMES["seg"])
    assert [s.SegmentNumber for s in item.SegmentSequence] == [label.id for label in TISSUES]
    for segment, label in zip(item.SegmentSequence, TISSUES, strict=True):
        assert segment.SegmentLabel == label.title
        assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == codes.FINDINGS[label.id][1].value
        assert segment.SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator == "SCT"
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
        shown = hd.color.CIELabColor.from_dicom_value(segment.RecommendedDisplayCIELabValue).to_rgb()
        np.testing.assert_allclose(shown, label.colour, atol=2)
        assert "Research use only" in segment.SegmentDescription
    assert "Research use only" in item.ContentDescription


def test_patient_study_and_frame_of_reference_are_the_ct_s(written: Path, kept: Labelled) -> None:
    ct = pydicom.dcmread(kept.scan.frames[0].path)
    for name in NAMES.values():
        item = pydicom.dcmread(written / name)
        for tag in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate"):
            assert item[tag].value == ct[tag].value, tag
        assert item.AccessionNumber == "A-17"
        assert item.SeriesInstanceUID != ct.SeriesInstanceUID
        assert "research use only" in item.SeriesDescription
    assert pydicom.dcmread(written / NAMES["seg"]).FrameOfReferenceUID == ct.FrameOfReferenceUID


def test_the_same_result_is_the_same_object(
    labelled: Labelled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    for name in ("a", "b"):
        output.write(labelled.result, tmp_path / name, ALL, frames=labelled.scan.frames)
    for name in NAMES.values():
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("change", ["labels", "settings", "model"])
def test_another_result_is_another_object(labelled: Labelled, tmp_path: Path, change: str) -> None:
    first = labelled.result
    labels, run = first.label_map.array.copy(), dict(first.run)
    if change == "labels":
        labels[tuple(np.argwhere(labels == 1)[0])] = 2
    elif change == "settings":
        run["settings"] = {**run["settings"], "fusion": False}
    else:
        run["model"] = {"sha256": "0" * 64}
    second = Segmentation(first.ct, first.lungs, first.ct.with_array(labels), first.statistics, None, run)
    uids = []
    for name, result in (("a", first), ("b", second)):
        output.write(result, tmp_path / name, SEG_ONLY, frames=labelled.scan.frames)
        item = pydicom.dcmread(tmp_path / name / NAMES["seg"])
        uids += [item.SOPInstanceUID, item.SeriesInstanceUID]
    assert len(set(uids)) == 4


def test_without_dicom_input_there_is_no_dicom_output(chest: Segmentation, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="read from DICOM"):
        output.write(chest, tmp_path / "out", SEG_ONLY)
    assert (tmp_path / "out" / "label_map.nii.gz").exists()
    assert not (tmp_path / "out" / NAMES["seg"]).exists()


@pytest.mark.parametrize("harm", ["gone", "resized", "fewer"])
def test_a_series_that_changed_meanwhile_is_refused(labelled: Labelled, tmp_path: Path, harm: str) -> None:
    frames = labelled.scan.frames
    if harm == "gone":
        frames[3].path.unlink()
    elif harm == "resized":
        item = pydicom.dcmread(frames[3].path)
        item.Rows += 1
        item.save_as(frames[3].path)
    else:
        frames = frames[:-1]
    with pytest.raises(OutputError, match="label the series again"):
        output.write(labelled.result, tmp_path / "out", SEG_ONLY, frames=frames)
    assert (tmp_path / "out" / "label_map.nii.gz").exists()
    assert not (tmp_path / "out" / NAMES["seg"]).exists()
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("tag", CARRIED)
def test_what_the_ct_does_not_tell_stays_empty(labelled: Labelled, tmp_path: Path, tag: str) -> None:
    for frame in labelled.scan.frames:
        item = pydicom.dcmread(frame.path)
        if tag in item:
            delattr(item, tag)
        item.save_as(frame.path)
    output.write(labelled.result, tmp_path / "out", SEG_AND_REPORT, frames=labelled.scan.frames)
    for name in (NAMES["seg"], NAMES["sr"]):
        assert not pydicom.dcmread(tmp_path / "out" / name).get(tag)


@pytest.mark.parametrize("tag", ["StudyInstanceUID", "FrameOfReferenceUID"])
def test_images_that_belong_to_nothing_are_refused(labelled: Labelled, tmp_path: Path, tag: str) -> None:
    item = pydicom.dcmread(labelled.scan.frames[2].path)
    delattr(item, tag)
    item.save_as(labelled.scan.frames[2].path)
    with pytest.raises(OutputError, match=tag):
        output.write(labelled.result, tmp_path / "out", SEG_ONLY, frames=labelled.scan.frames)


def test_a_class_without_voxels_stays_a_segment(labelled: Labelled, tmp_path: Path) -> None:
    first = labelled.result
    none = first.ct.with_array((first.lungs.array > 0).astype(np.uint8))
    healthy = Segmentation(first.ct, first.lungs, none, first.statistics, None, first.run)
    output.write(healthy, tmp_path / "out", ALL, frames=labelled.scan.frames)
    assert len(pydicom.dcmread(tmp_path / "out" / NAMES["seg"]).SegmentSequence) == len(TISSUES)
    assert validated(tmp_path / "out" / NAMES["seg"]) == []
    assert validated(tmp_path / "out" / NAMES["sr"]) == []


def test_several_multi_frame_files_are_refused(labelled: Labelled, tmp_path: Path) -> None:
    frames = tuple(Frame(frame.path, 1) for frame in labelled.scan.frames)
    with pytest.raises(OutputError, match="multi-frame"):
        output.write(labelled.result, tmp_path / "out", SEG_ONLY, frames=frames)


def test_pixels_are_those_of_the_preview(labelled: Labelled, tmp_path: Path) -> None:
    output.write(labelled.result, tmp_path / "out", Products(dicom=("sc",)), frames=labelled.scan.frames)
    item = pydicom.dcmread(tmp_path / "out" / NAMES["sc"])
    png = np.asarray(Image.open(tmp_path / "out" / "preview.png").convert("RGB"))
    np.testing.assert_array_equal(item.pixel_array, png)
    assert "Research use only" in item.ImageComments
