"""Whatever is put in: one sentence with a remedy, exit code 2, no traceback, nothing written."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from safetensors.torch import save_file

from diffseglung.cli import main
from diffseglung.volume import Volume
from tests.io.conftest import write_series_of

SPACING = np.diag([4.0, 4.0, 4.0, 1.0])
Words = list[object]


def chest() -> np.ndarray:
    """HU (X, Y, Z) of two dark lungs in a body in air."""
    hu = np.full((60, 50, 40), -1000.0, np.float32)
    hu[4:56, 4:46] = 40
    hu[10:26, 12:38, 6:34] = hu[34:50, 12:38, 6:34] = -850
    return hu + np.random.default_rng(0).normal(0, 10, hu.shape).astype(np.float32)


def save(path: Path, array: np.ndarray, affine: np.ndarray = SPACING) -> Path:
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def scan(folder: Path) -> Path:
    return save(folder / "ct.nii.gz", chest())


def series(folder: Path, edit: Callable | None = None) -> Path:
    """A DICOM series of the chest, slices edited."""
    affine = np.zeros((4, 4))
    affine[[2, 1, 0, 3], [0, 1, 2, 3]] = (4, 4, 4, 1)
    write_series_of(folder / "series", Volume(np.rint(chest().T), affine), edit=edit)
    return folder / "series"


def missing_file(folder: Path) -> Words:
    return ["-i", folder / "nowhere.nii.gz"]


def empty_file(folder: Path) -> Words:
    (folder / "ct.nii.gz").write_bytes(b"")
    return ["-i", folder / "ct.nii.gz"]


def text_renamed(folder: Path) -> Words:
    (folder / "ct.nii.gz").write_text("patient,age\n1,64\n")
    return ["-i", folder / "ct.nii.gz"]


def truncated_gzip(folder: Path) -> Words:
    whole = scan(folder).read_bytes()
    (folder / "ct.nii.gz").write_bytes(whole[: len(whole) // 2])
    return ["-i", folder / "ct.nii.gz"]


def damaged_gzip(folder: Path) -> Words:
    whole = bytearray(scan(folder).read_bytes())
    whole[len(whole) // 2 : len(whole) // 2 + 200] = bytes(200)
    (folder / "ct.nii.gz").write_bytes(bytes(whole))
    return ["-i", folder / "ct.nii.gz"]


def truncated_nifti(folder: Path) -> Words:
    (folder / "ct.nii").write_bytes(gzip.decompress(scan(folder).read_bytes())[:100_000])
    return ["-i", folder / "ct.nii"]


def unknown_format(folder: Path) -> Words:
    (folder / "ct.xyz").write_bytes(os.urandom(1000))
    return ["-i", folder / "ct.xyz"]


def nans(folder: Path) -> Words:
    return ["-i", save(folder / "ct.nii.gz", np.full((60, 50, 40), np.nan, np.float32))]


def image_2d(folder: Path) -> Words:
    return ["-i", save(folder / "ct.nii.gz", chest()[:, :, 20])]


def image_4d(folder: Path) -> Words:
    return ["-i", save(folder / "ct.nii.gz", np.stack([chest()] * 3, -1))]


def single_slice(folder: Path) -> Words:
    return ["-i", save(folder / "ct.nii.gz", chest()[:, :, 20:21])]


def mr_like(folder: Path) -> Words:
    return ["-i", save(folder / "ct.nii.gz", (chest() + 1000) * 0.8)]


def png_range(folder: Path) -> Words:
    grey = np.clip((chest() + 1350) / 1500 * 255, 0, 255).astype(np.uint8)
    return ["-i", save(folder / "ct.nii.gz", grey)]


def constant(folder: Path) -> Words:
    return ["-i", save(folder / "ct.nii.gz", np.zeros((60, 50, 40), np.int16))]


def no_lungs(folder: Path) -> Words:
    hu = np.full((60, 50, 40), -1000, np.int16)
    hu[4:56, 4:46] = 40
    return ["-i", save(folder / "ct.nii.gz", hu)]


def damaged_sform(folder: Path, rows: np.ndarray) -> Words:
    """A scan whose header holds `rows` (3, 4) as its sform, and no qform."""
    path = folder / "ct.nii"
    nib.save(nib.Nifti1Image(chest(), SPACING), path)
    header = bytearray(path.read_bytes())
    header[252:256] = np.array([0, 1], "<i2").tobytes()  # qform_code, sform_code
    header[280:328] = np.asarray(rows, "<f4").tobytes()  # srow_x, srow_y, srow_z
    path.write_bytes(header)
    return ["-i", path]


def singular_sform(folder: Path) -> Words:
    return damaged_sform(folder, SPACING[[0, 1, 1]])


def sform_of_nan(folder: Path) -> Words:
    return damaged_sform(folder, np.full((3, 4), np.nan))


def broken_nrrd(folder: Path) -> Words:
    (folder / "ct.nrrd").write_bytes(b"NRRD0004\ntype: short\ndimension: 3\nsizes: 10 10 10\nencoding: raw\n\nshort")
    return ["-i", folder / "ct.nrrd"]


def metaimage_without_data(folder: Path) -> Words:
    (folder / "ct.mhd").write_text(
        "ObjectType = Image\nNDims = 3\nDimSize = 9 9 9\nElementType = MET_SHORT\nElementDataFile = gone.raw\n"
    )
    return ["-i", folder / "ct.mhd"]


def empty_folder(folder: Path) -> Words:
    (folder / "series").mkdir()
    return ["-i", folder / "series"]


def folder_of_text(folder: Path) -> Words:
    (folder / "series").mkdir()
    (folder / "series" / "readme.txt").write_text("no scan here")
    return ["-i", folder / "series"]


def missing_slice(folder: Path) -> Words:
    place = series(folder)
    next(place.glob("*-20.dcm")).unlink()
    return ["-i", place]


def mixed_series(folder: Path) -> Words:
    def edit(dataset: pydicom.Dataset, k: int) -> None:
        if k % 2:
            dataset.SeriesInstanceUID = "1.2.3.4.5"

    return ["-i", series(folder, edit)]


def duplicate_slices(folder: Path) -> Words:
    def edit(dataset: pydicom.Dataset, k: int) -> None:
        if k == 20:
            dataset.ImagePositionPatient = [*dataset.ImagePositionPatient[:2], "76"]

    return ["-i", series(folder, edit)]


def series_of_size_zero(folder: Path) -> Words:
    def edit(dataset: pydicom.Dataset, k: int) -> None:
        dataset.Rows = dataset.Columns = 0
        dataset.PixelData = b""

    return ["-i", series(folder, edit)]


def mr_series(folder: Path) -> Words:
    def edit(dataset: pydicom.Dataset, k: int) -> None:
        dataset.Modality = "MR"
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.MRImageStorage

    return ["-i", series(folder, edit)]


def wrong_series(folder: Path) -> Words:
    return ["-i", series(folder), "--series", "9.9.9"]


def empty_mask(folder: Path) -> Words:
    return ["-i", scan(folder), "--lung-mask", save(folder / "m.nii.gz", np.zeros((60, 50, 40), np.uint8))]


def mask_of_another_shape(folder: Path) -> Words:
    return ["-i", scan(folder), "--lung-mask", save(folder / "m.nii.gz", np.ones((30, 50, 40), np.uint8))]


def mask_elsewhere(folder: Path) -> Words:
    moved = SPACING.copy()
    moved[:3, 3] = 500
    return ["-i", scan(folder), "--lung-mask", save(folder / "m.nii.gz", np.ones((60, 50, 40), np.uint8), moved)]


def mask_that_is_a_ct(folder: Path) -> Words:
    path = scan(folder)
    return ["-i", path, "--lung-mask", path]


def missing_mask(folder: Path) -> Words:
    return ["-i", scan(folder), "--lung-mask", folder / "nowhere.nii.gz"]


def pickled_npz(folder: Path) -> Words:
    trap = np.array([{"code": os.getcwd}], dtype=object)
    np.savez(folder / "case.npz", ct=trap, mask=trap)
    return ["--npz", folder / "case.npz"]


def npz_without_ct(folder: Path) -> Words:
    np.savez(folder / "case.npz", image=np.zeros((9, 9, 9), np.float32))
    return ["--npz", folder / "case.npz"]


def npz_with_another_mask(folder: Path) -> Words:
    norm = ((chest().T + 1000) / 700 - 1).clip(-1, 1)
    np.savez(folder / "case.npz", ct=norm, mask=np.ones((9, 9, 9), np.uint8))
    return ["--npz", folder / "case.npz"]


def npz_of_unit_range(folder: Path) -> Words:
    np.savez(folder / "case.npz", ct=((chest().T + 1350) / 1500).clip(0, 1), mask=np.ones((40, 50, 60), np.uint8))
    return ["--npz", folder / "case.npz"]


def npz_of_grey_levels(folder: Path) -> Words:
    grey = ((chest().T + 1350) / 1500 * 255).clip(0, 255).astype(np.uint8)
    np.savez(folder / "case.npz", ct=grey, mask=np.ones((40, 50, 60), np.uint8))
    return ["--npz", folder / "case.npz"]


def npz_of_z_scores(folder: Path) -> Words:
    np.savez(folder / "case.npz", ct=(chest().T + 400) / 300, mask=np.ones((40, 50, 60), np.uint8))
    return ["--npz", folder / "case.npz"]


def missing_checkpoint(folder: Path) -> Words:
    return ["-i", scan(folder), "--method", "published", "--model", folder / "nowhere.pt"]


def foreign_checkpoint(folder: Path) -> Words:
    torch.save({"state_dict": {"layer.weight": torch.zeros(3)}}, folder / "model.pt")
    return ["-i", scan(folder), "--method", "published", "--model", folder / "model.pt"]


def pickled_checkpoint(folder: Path) -> Words:
    torch.save({"model": torch.nn.Linear(2, 2)}, folder / "model.pt")
    return ["-i", scan(folder), "--method", "published", "--model", folder / "model.pt"]


def foreign_safetensors(folder: Path) -> Words:
    save_file({"weight": torch.zeros(3)}, folder / "model.safetensors")
    return ["-i", scan(folder), "--method", "published", "--model", folder / "model.safetensors"]


def checkpoint_that_is_a_scan(folder: Path) -> Words:
    shutil.copy(scan(folder), folder / "model.pt")
    return ["-i", folder / "ct.nii.gz", "--method", "published", "--model", folder / "model.pt"]


def absent_device(folder: Path) -> Words:
    return ["-i", scan(folder), "--device", "cuda:99"]


def setting_out_of_range(folder: Path) -> Words:
    return ["-i", scan(folder), "--abstain", "1.5"]


def output_is_a_file(folder: Path) -> Words:
    (folder / "taken").write_text("")
    return ["-i", scan(folder), "-o", folder / "taken" / "out"]


CASES = [
    *(missing_file, empty_file, text_renamed, truncated_gzip, damaged_gzip, truncated_nifti, unknown_format, nans),
    *(image_2d, image_4d, single_slice, mr_like, png_range, constant, no_lungs),
    *(singular_sform, sform_of_nan, npz_of_unit_range, npz_of_grey_levels, npz_of_z_scores),
    *(broken_nrrd, metaimage_without_data, empty_folder, folder_of_text, missing_slice, mixed_series),
    *(duplicate_slices, series_of_size_zero, mr_series, wrong_series, empty_mask, mask_of_another_shape),
    *(mask_elsewhere, mask_that_is_a_ct, missing_mask, pickled_npz, npz_without_ct, npz_with_another_mask),
    *(missing_checkpoint, foreign_checkpoint, pickled_checkpoint, foreign_safetensors, checkpoint_that_is_a_scan),
    *(absent_device, setting_out_of_range, output_is_a_file),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_bad_input_is_answered(case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, results = tmp_path / "in", tmp_path / "results"
    folder.mkdir()
    words = [str(word) for word in case(folder)]
    if "-o" not in words:
        words += ["-o", str(results / "out")]
    if "--method" not in words:
        words += ["--method", "physics"]
    before = sorted(folder.rglob("*"))
    code = main(["segment", *words])
    shown = capsys.readouterr()
    assert code == 2, shown.err
    assert "Traceback" not in shown.err
    problem, remedy = shown.err.strip().split("\n")
    assert problem.startswith("error: ")
    assert len(problem) > 25
    assert remedy.startswith("  try: ")
    assert not results.exists(), "something was written"
    assert sorted(folder.rglob("*")) == before


def test_the_same_scan_unspoilt_is_segmented(tmp_path: Path) -> None:
    """So that the cases above fail for what is wrong with them."""
    words = ["--method", "physics", "-q", "--no-preview"]
    assert main(["segment", "-i", str(scan(tmp_path)), "-o", str(tmp_path / "a"), *words]) == 0
    assert main(["segment", "-i", str(series(tmp_path)), "-o", str(tmp_path / "b"), *words]) == 0
