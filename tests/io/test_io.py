"""One function opens every format, and says what is wrong with what it cannot open."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diffseglung.io import read_mask, read_scan, read_volume, scan_name
from diffseglung.io.nifti import write_nifti
from diffseglung.platform.errors import InputError
from diffseglung.volume import Volume
from tests.io.dicom_defects import good_volume, write_good


@pytest.mark.parametrize("read", [read_volume, read_mask])
@pytest.mark.parametrize(
    ("name", "word"), [("none.nii.gz", "does not exist"), ("scan.xyz", "unknown format"), ("empty.mha", "0 bytes")]
)
def test_paths_that_are_no_scan_are_refused(tmp_path: Path, read: object, name: str, word: str) -> None:
    (tmp_path / "scan.xyz").write_text("x" * 500)
    (tmp_path / "empty.mha").touch()
    with pytest.raises(InputError, match=word):
        read(tmp_path / name)  # type: ignore[operator]


def test_a_scan_is_called_after_its_file_or_the_folder_of_its_series(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "study" / "series").mkdir(parents=True)
    (tmp_path / "study" / "series" / "1-01.dcm").touch()
    (tmp_path / "study" / "series" / "IM0001").touch()
    for file in ("1-01.dcm", "IM0001"):
        assert scan_name(tmp_path / "study" / "series" / file) == "series"
    assert scan_name(tmp_path / "study" / "a.nii.gz") == "a.nii.gz"
    monkeypatch.chdir(tmp_path / "study" / "series")
    assert [scan_name(Path(word)) for word in (".", "..", "1-01.dcm")] == ["series", "study", "series"]


def test_a_dicom_file_without_preamble_stands_for_its_series(tmp_path: Path) -> None:
    """As ACR-NEMA and old archives wrote them: with and without a header of group 2, whatever the ending."""
    whole = write_good(tmp_path / "series")
    for k, path in enumerate(whole):
        content = path.read_bytes()[132:]
        path.with_name(f"IM{k}.IMA" if k % 2 else f"IM{k}").write_bytes(content)
        path.unlink()
    for name in ("", "IM0", "IM1.IMA"):
        assert np.array_equal(read_scan(tmp_path / "series" / name).volume.array, good_volume().array)


def test_png_is_refused(tmp_path: Path) -> None:
    (tmp_path / "slice.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(300))
    with pytest.raises(InputError, match="unknown format") as caught:
        read_volume(tmp_path / "slice.png")
    assert "NIfTI" in caught.value.remedy


def test_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no DICOM files"):
        read_volume(tmp_path)


def test_series_of_a_file_is_refused(tmp_path: Path, chest: Volume) -> None:
    write_nifti(tmp_path / "a.nii.gz", chest)
    with pytest.raises(InputError, match="is not DICOM"):
        read_volume(tmp_path / "a.nii.gz", series_uid="3")


def test_text_paths_and_float32(tmp_path: Path, chest: Volume) -> None:
    write_nifti(tmp_path / "a.nii.gz", chest.with_array(chest.array.astype(np.int16)))
    found = read_volume(str(tmp_path / "a.nii.gz"))
    assert found.array.dtype == np.float32
    assert np.array_equal(found.array, chest.array)


@pytest.mark.parametrize(
    ("values", "word"), [(0.5, "fractional values"), (-3, "values run from"), (np.nan, "fractional values")]
)
def test_what_is_no_mask_is_refused(tmp_path: Path, chest: Volume, values: float, word: str) -> None:
    mask = (chest.array > 0).astype(np.float32)
    mask[0, 0, 0] = values
    write_nifti(tmp_path / "m.nii.gz", chest.with_array(mask))
    with pytest.raises(InputError, match=word):
        read_mask(tmp_path / "m.nii.gz")


def test_mask_stored_as_float_is_read(tmp_path: Path, chest: Volume) -> None:
    write_nifti(tmp_path / "m.nii.gz", chest.with_array((chest.array > 0).astype(np.float32)))
    assert read_mask(tmp_path / "m.nii.gz").array.dtype == np.uint8


REAL = [
    "cip_ct64/ct-64.nrrd",
    "elastix_3DCT_lung/3DCT_lung.mha",
    "elastix_3DCT_lung/3DCT_lung_baseline_small.mha",
    "lidc_2cases/lidc_1011.nii.gz",
    "lctsc_7cases/lctsc_Test-S1-201.nii.gz",
    "lung_pet_ct_dx/A0002_B40f_dicom",
    "lung_pet_ct_dx/lungdx_A0002_s3.nii.gz",
    "totalsegmentator_thorax_crop/pulmonary_ct_cropped.nii.gz",
]


@pytest.mark.parametrize("name", REAL)
def test_real_scans_are_accepted_and_label_maps_match_them(shared_data: Path, tmp_path: Path, name: str) -> None:
    scan = read_scan(shared_data / name)
    assert scan.volume.array.min() >= -1024
    write_nifti(tmp_path / "labels.nii.gz", scan.volume.with_array((scan.volume.array > 0).astype(np.uint8)))
    assert read_mask(tmp_path / "labels.nii.gz").same_grid(scan.volume, 1e-3)


def test_uncalibrated_scan_is_told(shared_data: Path) -> None:
    notes = read_scan(shared_data / "elastix_3DCT_lung" / "3DCT_lung.mha").notes
    assert any("reads -1030 HU" in note for note in notes)


def test_two_slices_are_refused(shared_data: Path) -> None:
    with pytest.raises(InputError, match="only 2 slices"):
        read_volume(shared_data / "cip_ct64")
