"""Scans of any format become cases; a failure is reported and the others go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffseglung.cli import run_command
from diffseglung.io.nifti import write_nifti
from diffseglung.io.npz import iter_cases, read_case
from diffseglung.volume import Volume


@pytest.fixture
def chest(oblique_affine: np.ndarray) -> Volume:
    """Two lungs of 1 litre in a body in air, on the tilted and flipped grid at 4 to 5 mm."""
    affine = oblique_affine.copy()
    affine[:3, :3] *= [2.0, 5.0, 6.0]  # columns Z, Y, X: 5, 4, 4.2 mm
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in (50, 64, 80)], indexing="ij")
    hu = np.where((y / 0.75) ** 2 + (x / 0.85) ** 2 < 1, 40.0, -1000.0)
    for centre in (-0.42, 0.42):
        hu[(z / 0.8) ** 2 + (y / 0.45) ** 2 + ((x - centre) / 0.27) ** 2 < 1] = -850
    hu += np.random.default_rng(0).normal(0, 10, hu.shape)
    return Volume(hu.round().astype(np.int16), affine)


@pytest.fixture
def lungs(chest: Volume) -> Volume:
    inside = np.abs(chest.array + 850) < 60
    return chest.with_array(inside.astype(np.uint8))


def convert(*words: Any) -> int:
    return run_command("convert", [str(word) for word in words])


def test_a_scan_becomes_a_case_with_found_lungs(tmp_path: Path, chest: Volume, lungs: Volume, capsys: Any) -> None:
    write_nifti(tmp_path / "p1.nii.gz", chest)
    assert convert("-i", tmp_path / "p1.nii.gz", "-o", tmp_path / "out", "--dataset", "lidc") == 0
    case = read_case(tmp_path / "out" / "lidc__p1.npz")
    assert case.ct.same_grid(chest)
    assert np.allclose(case.ct.array, chest.array.clip(-1000, 400), atol=1e-3)
    found, true = case.lungs.array > 0, lungs.array > 0
    assert 2 * (found & true).sum() / (found.sum() + true.sum()) > 0.9
    assert case.meta["lung_mask"] == "found"
    assert case.meta["source"]["format"] == "NIfTI"
    printed = capsys.readouterr()
    assert "lidc__p1.npz: 50 x 64 x 80 voxels of 5 x 4 x 4.2 mm" in printed.out
    assert "note: voxels are up to 5.0 mm apart" in printed.out


def test_a_given_mask_is_taken(tmp_path: Path, chest: Volume, lungs: Volume) -> None:
    half = lungs.with_array(lungs.array * (np.arange(80) < 40).astype(np.uint8))
    write_nifti(tmp_path / "p1.nii.gz", chest)
    write_nifti(tmp_path / "m.nii.gz", half)
    words = ("-i", tmp_path / "p1.nii.gz", "-o", tmp_path / "out", "--lung-mask", tmp_path / "m.nii.gz", "-q")
    assert convert(*words) == 0
    case = read_case(tmp_path / "out" / "local__p1.npz")
    assert np.array_equal(case.lungs.array > 0, half.array > 0)
    assert case.meta["lung_mask"] == "given"


def test_masks_are_paired_by_suffix_and_spacing_is_changed(tmp_path: Path, chest: Volume, lungs: Volume) -> None:
    write_nifti(tmp_path / "in" / "p1.nii.gz", chest)
    write_nifti(tmp_path / "in" / "p1_lung.nii.gz", lungs)
    words = ("-i", tmp_path / "in", "-o", tmp_path / "out", "--mask_suffix", "_lung", "--spacing-mm", "6", "-q")
    assert convert(*words) == 0
    (path,) = iter_cases(tmp_path / "out")
    case = read_case(path)
    assert case.ct.spacing_mm == pytest.approx((6, 6, 6))
    assert (case.lungs.array > 0).sum() * 216 == pytest.approx((lungs.array > 0).sum() * 5 * 4 * 4.2, rel=0.05)


def test_a_failure_is_reported_and_the_others_go_on(tmp_path: Path, chest: Volume, capsys: Any) -> None:
    write_nifti(tmp_path / "in" / "good.nii.gz", chest)
    (tmp_path / "in" / "bad.nii.gz").write_text("not an image")
    write_nifti(tmp_path / "in" / "grey.nii.gz", chest.with_array((chest.array // 10 + 110).clip(0, 255)))
    assert convert("-i", tmp_path / "in", "-o", tmp_path / "out") == 1
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["local__good.npz"]
    printed = capsys.readouterr()
    assert "bad.nii.gz cannot be read as NIfTI" in printed.err
    assert "image grey levels" in printed.err
    assert "1 of 3 scans" in printed.out


@pytest.mark.parametrize("kind", ["missing", "empty", "broken"])
def test_nothing_readable_is_2_and_leaves_nothing(tmp_path: Path, kind: str, capsys: Any) -> None:
    folder = tmp_path / "in"
    if kind != "missing":
        folder.mkdir()
    if kind == "broken":
        (folder / "bad.nii.gz").write_text("not an image")
    assert convert("-i", folder, "-o", tmp_path / "out") == 2
    assert "try:" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_existing_cases_are_kept_unless_told(tmp_path: Path, chest: Volume, lungs: Volume, capsys: Any) -> None:
    write_nifti(tmp_path / "p1.nii.gz", chest)
    write_nifti(tmp_path / "m.nii.gz", lungs)
    words = ("-i", tmp_path / "p1.nii.gz", "-o", tmp_path / "out", "--lung-mask", tmp_path / "m.nii.gz")
    assert convert(*words) == 0
    path = tmp_path / "out" / "local__p1.npz"
    path.write_bytes(b"mine")
    assert convert(*words) == 0
    assert "kept" in capsys.readouterr().out
    assert path.read_bytes() == b"mine"
    assert convert(*words, "--overwrite") == 0
    assert read_case(path).ct.same_grid(chest)


def test_one_mask_for_many_scans_is_refused(tmp_path: Path, chest: Volume, capsys: Any) -> None:
    for name in ("a", "b"):
        write_nifti(tmp_path / "in" / f"{name}.nii.gz", chest)
    assert convert("-i", tmp_path / "in", "-o", tmp_path / "out", "--lung-mask", tmp_path / "in" / "a.nii.gz") == 2
    assert "holds 2 scans" in capsys.readouterr().err


@pytest.mark.parametrize("mask", ["empty", "other shape", "ct"])
def test_bad_masks_are_refused(tmp_path: Path, chest: Volume, lungs: Volume, mask: str, capsys: Any) -> None:
    bad = {"empty": lungs.with_array(lungs.array * 0), "other shape": lungs.crop((0, 0, 0), (9, 9, 9)), "ct": chest}
    write_nifti(tmp_path / "p1.nii.gz", chest)
    write_nifti(tmp_path / "m.nii.gz", bad[mask])
    words = ("-i", tmp_path / "p1.nii.gz", "-o", tmp_path / "out", "--lung-mask", tmp_path / "m.nii.gz")
    assert convert(*words) == 2
    assert "try:" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_absurd_spacing_is_refused(tmp_path: Path, chest: Volume) -> None:
    write_nifti(tmp_path / "p1.nii.gz", chest)
    assert convert("-i", tmp_path / "p1.nii.gz", "-o", tmp_path / "out", "--spacing-mm", "0.01") == 2


def test_real_dicom_series(shared_data: Path, tmp_path: Path) -> None:
    series = shared_data / "lung_pet_ct_dx" / "A0002_B40f_dicom"
    assert convert("-i", series, "-o", tmp_path, "--spacing-mm", "3", "--dataset", "pet", "-q") == 0
    (written,) = tmp_path.glob("pet__*.npz")
    case = read_case(written)
    litres = (case.lungs.array > 0).sum() * case.ct.voxel_ml / 1000
    assert 2.3 < litres < 3.2
