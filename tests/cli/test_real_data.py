"""Real CTs of every format through the real command: a label map on exactly the file's own grid.

The grid is read from the input by nibabel, SimpleITK or pydicom, not by the package. Masks are refused as masks.
"""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from diffseglung.cli import main

pytestmark = pytest.mark.timeout(600)
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

SMALL = [
    "cip_ct64/ct-64.nrrd",
    "elastix_3DCT_lung/3DCT_lung_baseline_small.mha",
    "totalsegmentator_thorax_crop/pulmonary_ct_cropped.nii.gz",
    "lung_pet_ct_dx/A0002_B40f_dicom",
]
"""One scan of every format."""
SCANS = [
    *SMALL,
    "elastix_3DCT_lung/3DCT_lung.mha",
    *(f"lung_pet_ct_dx/lungdx_{name}.nii.gz" for name in ("A0001_s2", "A0001_s3", "A0002_s2", "A0002_s3")),
    *(f"lidc_2cases/lidc_{name}.nii.gz" for name in ("0001", "1011")),
    *(f"lctsc_7cases/lctsc_Test-S1-{number}.nii.gz" for number in (101, 102, 103, 104, 201, 202, 203)),
]
MASKS = [
    "cip_ct64/lm-64.nrrd",
    "cip_ct64/wholeLung-64.nrrd",
    "elastix_3DCT_lung/3DCT_lung_baseline_mask.mha",
    "elastix_3DCT_lung/3DCT_lung_followup_mask.mha",
    "lctsc_7cases/lctsc_Test-S1-101_lung.nii.gz",
    "lidc_2cases/lidc_1011_lung.nii.gz",
    "lung_pet_ct_dx/lungdx_A0002_s3_lung.nii.gz",
]


def grid_of(path: Path) -> tuple[tuple[int, ...], np.ndarray]:
    """Shape (x, y, z) and affine to RAS mm, as the format's own library tells them."""
    if path.is_dir():
        return grid_of_series(path)
    if path.name.endswith(".nii.gz"):
        image = nib.load(path)
        return image.shape, np.asarray(image.affine)
    image = sitk.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return image.GetSize(), LPS_TO_RAS @ affine


def grid_of_series(folder: Path) -> tuple[tuple[int, ...], np.ndarray]:
    """Of an axial DICOM series, slices from feet to head (DICOM PS3.3 C.7.6.2.1.1)."""
    slices = [pydicom.dcmread(file, stop_before_pixels=True) for file in folder.iterdir()]
    slices.sort(key=lambda item: float(item.ImagePositionPatient[2]))
    first, last = (np.array(item.ImagePositionPatient, float) for item in (slices[0], slices[-1]))
    across, down = np.array(slices[0].ImageOrientationPatient, float).reshape(2, 3)
    between_rows, between_columns = map(float, slices[0].PixelSpacing)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = across * between_columns, down * between_rows
    affine[:3, 2], affine[:3, 3] = (last - first) / (len(slices) - 1), first
    return (slices[0].Columns, slices[0].Rows, len(slices)), LPS_TO_RAS @ affine


def check_result(source: Path, folder: Path) -> None:
    """The label map lies on the grid of `source`, the statistics count its voxels, and the record names it."""
    assert json.loads((folder / "run.json").read_text(encoding="utf-8"))["input"] == source.name
    shape, affine = grid_of(source)
    image = nib.load(folder / "label_map.nii.gz")
    assert image.shape == tuple(shape)
    np.testing.assert_allclose(image.affine, affine, atol=1e-4)
    np.testing.assert_allclose(image.get_qform(), affine, atol=1e-3)
    labels = np.asarray(image.dataobj)
    assert labels.dtype == np.uint8
    assert set(np.unique(labels)) <= set(range(6))
    statistics = json.loads((folder / "statistics.json").read_text(encoding="utf-8"))
    voxel_ml = abs(np.linalg.det(affine[:3, :3])) / 1000
    assert statistics["lung"]["volume_ml"] == pytest.approx((labels > 0).sum() * voxel_ml, rel=1e-3)
    assert statistics["lung"]["volume_ml"] > 1000
    assert statistics["lung"]["mean_lung_density_hu"] < -600


@pytest.mark.slow
@pytest.mark.parametrize("name", SCANS, ids=lambda name: Path(name).name)
def test_the_label_map_of_a_real_scan_lies_on_its_grid(shared_data: Path, tmp_path: Path, name: str) -> None:
    assert main(["segment", "-i", str(shared_data / name), "-o", str(tmp_path / "out"), "-q"]) == 0
    check_result(shared_data / name, tmp_path / "out")
    assert (tmp_path / "out" / "preview.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", SMALL, ids=lambda name: Path(name).name)
def test_so_it_does_without_the_network(shared_data: Path, tmp_path: Path, name: str) -> None:
    words = ["-q", "--method", "physics", "--no-preview", "--no-report"]
    assert main(["segment", "-i", str(shared_data / name), "-o", str(tmp_path / "out"), *words]) == 0
    check_result(shared_data / name, tmp_path / "out")


@pytest.mark.parametrize("name", MASKS, ids=lambda name: Path(name).name)
def test_a_mask_in_the_scan_s_place_is_refused_as_a_mask(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main(["segment", "-i", str(shared_data / name), "-o", str(tmp_path / "out")]) == 2
    shown = capsys.readouterr().err
    assert "is a mask or label map, not a CT" in shown
    assert "--lung-mask" in shown
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["cip_ct64", "cip_ct64/slice001.dcm"])
def test_two_slices_are_refused_for_being_two(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main(["segment", "-i", str(shared_data / name), "-o", str(tmp_path / "out")]) == 2
    assert "has only 2 slices" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
