"""`segment --dicom` on a real series: valid objects whose labels are those of the NIfTI map, voxel by voxel."""

from __future__ import annotations

import json
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest

from diffseglung.cli import main
from diffseglung.cli.options import DICOM_OBJECTS
from diffseglung.output.dicom import NAMES
from tests.cohort.cohort_toys import write_scans
from tests.output.dicom.test_images import validated


@pytest.fixture(scope="module")
def real_series(shared_data: Path) -> Path:
    return shared_data / "lung_pet_ct_dx" / "A0002_B40f_dicom"


@pytest.fixture(scope="module")
def labelled(real_series: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("real") / "out"
    assert main(["segment", "-i", str(real_series), "-o", str(out), "--dicom", "seg", "sr", "sc", "-q"]) == 0
    return out


@pytest.mark.parametrize("name", ["segmentation.dcm", "measurements.dcm", "picture.dcm"])
def test_the_validator_finds_no_error(labelled: Path, name: str) -> None:
    assert validated(labelled / name) == []


def test_labels_and_geometry_equal_the_label_map(labelled: Path, real_series: Path) -> None:
    item, nifti = hd.seg.segread(labelled / "segmentation.dcm"), nib.load(labelled / "label_map.nii.gz")
    slices = sorted(
        (pydicom.dcmread(path, stop_before_pixels=True) for path in real_series.rglob("*") if path.is_file()),
        key=lambda s: float(s.ImagePositionPatient[2]),
    )
    theirs = item.get_pixels_by_source_instance([s.SOPInstanceUID for s in slices], combine_segments=True)
    ours = np.asarray(nifti.dataobj).transpose(2, 1, 0)  # (Z, Y, X)
    if nifti.affine[2, 2] < 0:
        ours = ours[::-1]
    np.testing.assert_array_equal(theirs, ours)
    volume = item.get_volume(combine_segments=True)
    points = np.argwhere(volume.array > 0)
    lps = np.column_stack([points @ volume.affine[:3, :3].T + volume.affine[:3, 3], np.ones(len(points))])
    index = np.linalg.inv(nifti.affine)[:3] @ np.diag([-1.0, -1, 1, 1]) @ lps.T  # where the label map has these places
    np.testing.assert_allclose(index, np.rint(index), atol=2e-3)
    found = np.asarray(nifti.dataobj)[tuple(np.rint(index).astype(int))]
    np.testing.assert_array_equal(found, volume.array[tuple(points.T)])
    assert item.FrameOfReferenceUID == slices[0].FrameOfReferenceUID


def test_the_report_repeats_the_statistics(labelled: Path) -> None:
    statistics = json.loads((labelled / "statistics.json").read_text(encoding="utf-8"))
    content = hd.sr.srread(labelled / "measurements.dcm").content
    groups = {g.tracking_identifier: g for g in content.get_volumetric_roi_measurement_groups()}
    volume = next(m for m in groups["DiffSegLung healthy"].get_measurements() if m.name.meaning == "Volume")
    assert float(volume.value) == pytest.approx(statistics["healthy"]["volume_ml"], rel=1e-5)


def test_the_command_line_offers_every_object() -> None:
    assert tuple(NAMES) == DICOM_OBJECTS


def test_a_file_that_is_no_dicom_has_no_dicom_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo = Path(__file__).parents[2] / "demo" / "lidc_1011.nii.gz"
    assert main(["segment", "-i", str(demo), "-o", str(tmp_path / "out"), "--dicom"]) == 2
    assert "read from DICOM" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_picture_that_fails_is_told_and_costs_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_scans(tmp_path, 1)

    def fail(_: object) -> bytes:
        raise ValueError("a text")

    monkeypatch.setattr("diffseglung.output.draw", fail)
    words = ["segment", "-i", str(tmp_path / "scan_000.nii.gz"), "-o", str(tmp_path / "out"), "--no-report", "--json"]
    assert main(words) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["lung"]["volume_ml"] > 0
    assert "preview.png could not be made (ValueError); the other files are complete" in said.err
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"label_map.nii.gz", "statistics.json", "run.json"}
