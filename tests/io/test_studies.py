"""Every scan of a folder tree is found once, under a name of its own; masks are not taken for scans."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffseglung.errors import InputError
from diffseglung.io.nifti import write_nifti
from diffseglung.io.studies import clean_name, find_studies
from diffseglung.volume import Volume


def _tree(root: Path, volume: Volume, *names: str) -> None:
    for name in names:
        write_nifti(root / name, volume)


def test_one_file_is_one_study(tmp_path: Path, chest: Volume) -> None:
    _tree(tmp_path, chest, "patient 7.nii.gz")
    (study,) = find_studies(tmp_path / "patient 7.nii.gz")
    assert study.name == "patient-7"
    assert np.array_equal(study.read().volume.array, chest.array)


def test_masks_are_left_out_and_paired_by_suffix(tmp_path: Path, chest: Volume) -> None:
    _tree(tmp_path, chest, "a.nii.gz", "a_lung.nii.gz", "b.nii", "b_mask.nii.gz", "c_lung.nii.gz", ".d.nii.gz")
    assert [s.name for s in find_studies(tmp_path)] == ["a", "b", "c_lung"]  # c_lung has no c: it is a scan
    assert [s.mask and s.mask.name for s in find_studies(tmp_path, mask_suffix="_lung")] == [
        "a_lung.nii.gz",
        None,
        None,
    ]
    _tree(tmp_path, chest, "b_right.nii.gz")
    found = find_studies(tmp_path, mask_suffix="_right")
    assert [(s.name, s.mask and s.mask.name) for s in found] == [("a", None), ("b", "b_right.nii.gz"), ("c_lung", None)]


def test_what_our_own_commands_write_is_not_taken_for_scans(tmp_path: Path, chest: Volume) -> None:
    _tree(tmp_path, chest, "case/ct.nii.gz", "case/lungs.nii.gz", "case/truth.nii.gz", "out/label_map.nii.gz")
    assert [study.path.name for study in find_studies(tmp_path)] == ["ct.nii.gz"]


def test_equal_names_are_told_apart_by_folder(tmp_path: Path, chest: Volume) -> None:
    _tree(tmp_path, chest, "p1/ct.nii.gz", "p2/ct.nii.gz", "p3/other.nii.gz", "p4/x__y.nii.gz")
    assert [s.name for s in find_studies(tmp_path)] == ["other", "p1-ct", "p2-ct", "x_y"]


def test_names_that_still_clash_are_counted(tmp_path: Path, chest: Volume) -> None:
    _tree(tmp_path, chest, "a.nii.gz", "a.nii")
    assert [s.name for s in find_studies(tmp_path)] == ["a", "a-2"]


def test_dicom_series_are_found_beside_files(tmp_path: Path, chest: Volume, upright: Volume, write_series: Any) -> None:
    def second(dataset: Any, k: int) -> None:
        dataset.SeriesInstanceUID, dataset.SeriesNumber = "1.2.3.99", 8

    _tree(tmp_path, chest, "x.nii.gz")
    write_series(tmp_path / "p1", upright)
    write_series(tmp_path / "p2", upright)
    write_series(tmp_path / "p2", upright.crop((0, 0, 0), (3, 20, 24)), edit=second)
    write_series(tmp_path / "p3", upright, edit=lambda d, k: setattr(d, "Modality", "MR"))
    found = find_studies(tmp_path)
    assert [s.name for s in found] == ["p1", "x"]  # p1 and p2 hold one and the same series


def test_two_series_of_one_folder_are_two_studies(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    def second(dataset: Any, k: int) -> None:
        dataset.SeriesInstanceUID, dataset.SeriesNumber = "1.2.3.99", 8

    write_series(tmp_path / "p1" / "a", upright)
    for path in write_series(tmp_path / "b", upright.with_array(upright.array + 3), edit=second):
        path.rename(tmp_path / "p1" / "a" / f"second-{path.name}")
    found = find_studies(tmp_path)
    assert [s.name for s in found] == ["p1-a-s3", "p1-a-s8"]
    assert np.array_equal(found[0].read().volume.array, upright.array)
    assert np.array_equal(found[1].read().volume.array, upright.array + 3)


def test_damaged_file_beside_a_series_fails_that_series_only(
    tmp_path: Path, upright: Volume, write_series: Any
) -> None:
    def second(dataset: Any, k: int) -> None:
        dataset.SeriesInstanceUID = "1.2.3.99"

    last = write_series(tmp_path / "p1", upright)[11]
    last.write_bytes(b"")
    write_series(tmp_path / "p2", upright, edit=second)
    broken, whole = find_studies(tmp_path)
    assert (broken.name, whole.name) == ("p1", "p2")
    with pytest.raises(InputError, match=f"{last.name} is empty"):
        broken.read()
    assert whole.read().volume.shape == upright.shape


def test_maps_and_copies_with_loss_are_no_scans(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    kinds = {
        "a": {},
        "b": {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "IODINE"]},
        "c": {"LossyImageCompression": "01"},
    }
    for name, values in kinds.items():

        def edit(dataset: Any, k: int, name: str = name, values: dict[str, Any] = values) -> None:
            dataset.SeriesInstanceUID = f"1.2.{ord(name)}"
            for tag, value in values.items():
                setattr(dataset, tag, value)

        write_series(tmp_path / name, upright, edit=edit)
    assert [study.name for study in find_studies(tmp_path)] == ["a"]


def test_folder_of_one_series_is_named_after_itself(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    write_series(tmp_path / "p1", upright)
    assert [s.name for s in find_studies(tmp_path / "p1")] == ["p1"]


def test_nothing_to_find_is_an_error(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    with pytest.raises(InputError, match="does not exist"):
        find_studies(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no scans"):
        find_studies(tmp_path)
    write_series(tmp_path / "mr", upright, edit=lambda d, k: setattr(d, "Modality", "MR"))
    with pytest.raises(InputError, match=r"holds no scans .*no CT but MR"):
        find_studies(tmp_path)
    write_series(tmp_path / "few", upright.crop((0, 0, 0), (3, 20, 24)))
    with pytest.raises(InputError, match="no complete CT series"):
        find_studies(tmp_path)


@pytest.mark.parametrize(
    ("name", "clean"), [("a__b", "a_b"), ("Käse 1/2", "K-se-1-2"), ("..", "scan"), ("_x_", "x"), ("1.2.3", "1.2.3")]
)
def test_names_fit_file_systems_and_split_once(name: str, clean: str) -> None:
    assert clean_name(name) == clean
