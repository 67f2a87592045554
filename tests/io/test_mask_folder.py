"""TotalSegmentator's folder of masks is one label map; what is missing or does not fit is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diffseglung.io import read_mask
from diffseglung.io.mask_folder import LOBES, SIDES, is_mask_folder
from diffseglung.io.nifti import write_nifti
from diffseglung.platform.errors import GeometryError, InputError
from diffseglung.volume import Volume


def write_masks(folder: Path, grid: Volume, names: dict[str, int]) -> np.ndarray:
    """Each label in planes of its own; returns the label map they make together."""
    whole = np.zeros(grid.shape, np.uint8)
    for plane, (name, label) in enumerate(names.items()):
        mask = np.zeros(grid.shape, np.uint8)
        mask[plane % grid.shape[0], 1:4, 2:5] = 1
        whole[mask > 0] = label
        write_nifti(folder / f"{name}.nii.gz", grid.with_array(mask))
    return whole


@pytest.mark.parametrize("names", [LOBES, SIDES], ids=["lobes", "sides"])
def test_the_masks_are_one_label_map(names: dict[str, int], oblique: Volume, tmp_path: Path) -> None:
    whole = write_masks(tmp_path, oblique, names)
    write_nifti(tmp_path / "heart.nii.gz", oblique.with_array(np.ones(oblique.shape, np.uint8)))
    assert is_mask_folder(tmp_path)
    mask = read_mask(tmp_path)
    assert mask.same_grid(oblique)
    assert mask.array.dtype == np.uint8
    np.testing.assert_array_equal(mask.array, whole)


def test_a_lobe_that_was_taken_out_is_an_empty_file(oblique: Volume, tmp_path: Path) -> None:
    whole = write_masks(tmp_path, oblique, LOBES)
    path = tmp_path / "lung_middle_lobe_right.nii.gz"
    write_nifti(path, oblique.with_array(np.zeros(oblique.shape, np.uint8)))
    np.testing.assert_array_equal(read_mask(tmp_path).array, np.where(whole == 13, 0, whole))


def test_a_missing_lobe_is_named(oblique: Volume, tmp_path: Path) -> None:
    write_masks(tmp_path, oblique, LOBES)
    (tmp_path / "lung_middle_lobe_right.nii.gz").unlink()
    with pytest.raises(InputError, match=r"no lung_middle_lobe_right\.nii\.gz") as error:
        read_mask(tmp_path)
    assert "--roi_subset" in error.value.remedy


def test_another_grid_and_other_values_are_refused(oblique: Volume, tmp_path: Path) -> None:
    write_masks(tmp_path, oblique, LOBES)
    path = tmp_path / "lung_upper_lobe_right.nii.gz"
    write_nifti(path, oblique.with_array(np.full(oblique.shape, 12, np.uint8)))
    with pytest.raises(InputError, match=r"lung_upper_lobe_right\.nii\.gz is not a mask of 0 and 1"):
        read_mask(tmp_path)
    moved = oblique.affine.copy()
    moved[0, 3] += 5
    write_nifti(path, Volume(np.zeros(oblique.shape, np.uint8), moved))
    with pytest.raises(GeometryError, match=r"lung_upper_lobe_right\.nii\.gz lies on another grid"):
        read_mask(tmp_path)


def test_a_folder_without_masks_is_no_mask_folder(tmp_path: Path) -> None:
    assert not is_mask_folder(tmp_path)
    with pytest.raises(InputError):
        read_mask(tmp_path)
