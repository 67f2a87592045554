"""Every scan of a folder tree is found once, under a name of its own; masks are not taken for scans."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffseglung.io.nifti import write_nifti
from diffseglung.io.studies import clean_name, find_studies, study_name
from diffseglung.platform.errors import InputError
from diffseglung.volume import Volume
from tests.toys import not_utf8


def _tree(root: Path, volume: Volume, *names: str) -> None:
    for name in names:
        write_nifti(root / name, volume)


def test_one_file_is_one_study(tmp_path: Path, chest: Volume) -> None:
    _tree(tmp_path, chest, "patient 7.nii.gz")
    (study,) = find_studies(tmp_path / "patient 7.nii.gz")
    assert re.fullmatch("patient-7-[0-9a-f]{8}", study.name)
    assert np.array_equal(study.read().volume.array, chest.array)


def test_masks_are_left_out_and_paired_by_suffix(tmp_path: Path, chest: Volume) -> None:
    _tree(tmp_path, chest, "a.nii.gz", "a_lung.nii.gz", "b.nii", "b_mask.nii.gz", "c_lung.nii.gz", ".d.nii.gz")
    assert [s.name for s in find_studies(tmp_path)] == ["a", "b.nii", "c_lung"]  # c_lung has no c: it is a scan
    assert [s.mask and s.mask.name for s in find_studies(tmp_path, mask_suffix="_lung")] == [
        "a_lung.nii.gz",
        None,
        None,
    ]
    _tree(tmp_path, chest, "b_right.nii.gz")
    found = find_studies(tmp_path, mask_suffix="_right")
    assert [(s.name, s.mask and s.mask.name) for s in found] == [
        ("a", None),
        ("b.nii", "b_right.nii.gz"),
        ("c_lung", None),
    ]


def test_what_our_own_commands_write_is_not_taken_for_scans(tmp_path: Path, chest: Volume) -> None:
    _tree(tmp_path, chest, "case/ct.nii.gz", "case/lungs.nii.gz", "case/truth.nii.gz", "out/label_map.nii.gz")
    assert [study.path.name for study in find_studies(tmp_path)] == ["ct.nii.gz"]


PARTS = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["Cs"]) | st.sampled_from("aA-_. "),
    min_size=1,
)


@given(paths=st.lists(st.lists(PARTS, min_size=1, max_size=3).map(tuple), unique=True, max_size=8))
def test_a_name_depends_on_its_own_path_only_and_stands_for_it_alone(paths: list[tuple[str, ...]]) -> None:
    names = [study_name(parts) for parts in paths]
    assert len(set(names)) == len(names)
    assert names == [study_name(parts) for parts in paths]
    assert all(name == clean_name(name) and len(name.encode()) <= 120 for name in names)


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (("a",), "a"),
        (("LIDC-IDRI-0001", "ct"), "LIDC-IDRI-0001--ct"),
        (("Müller", "肺"), "Müller--肺"),
        (("p1--ct",), "p1--ct-........"),
        (("patient 7",), "patient-7-........"),
        (("M\udcfcller",), "M-ller-........"),
        (("x__y",), "x_y-........"),
        (("...",), "scan-........"),
        (("肺" * 60,), "肺{37}-........"),
    ],
)
def test_names_can_be_read(parts: tuple[str, ...], name: str) -> None:
    assert re.fullmatch(name, study_name(parts))


def test_names_do_not_move_when_scans_are_added(
    tmp_path: Path, chest: Volume, upright: Volume, write_series: Any
) -> None:
    def second(dataset: Any, k: int) -> None:
        dataset.SeriesInstanceUID, dataset.SeriesNumber = "1.2.3.99", 8

    known: dict[Path, str] = {}
    for more in ("p1/ct.nii.gz", "p2/ct.nii.gz", "p1-ct.nii.gz", "p1/ct.nii", "ct.nii.gz", "p1.mha", "ü.nii.gz"):
        _tree(tmp_path, chest, more.replace(".mha", ".nii"))
        if more.endswith(".mha"):
            (tmp_path / more).with_suffix(".nii").rename(tmp_path / more)
        found = {study.path: study.name for study in find_studies(tmp_path)}
        assert known.items() <= found.items()
        known = found
    assert set(known.values()) == {"p1--ct", "p2--ct", "p1-ct", "p1--ct.nii", "ct", "p1.mha", "ü"}
    write_series(tmp_path / "p3", upright)
    assert {study.name for study in find_studies(tmp_path)} == {*known.values(), "p3--s3"}
    for path in write_series(tmp_path / "x", upright, edit=second):
        path.rename(tmp_path / "p3" / f"second-{path.name}")
    assert {study.name for study in find_studies(tmp_path)} == {*known.values(), "p3--s3", "p3--s8"}


def test_capitals_alone_do_not_tell_names_apart(tmp_path: Path, chest: Volume) -> None:
    _tree(tmp_path, chest, "a.nii.gz", "A.nii.gz", "b.nii.gz")
    if len(list(tmp_path.iterdir())) < 3:
        pytest.skip("the file system takes them for one file")
    one, two, other = (study.name for study in find_studies(tmp_path))
    assert re.fullmatch("A-[0-9a-f]{8} a-[0-9a-f]{8} b", f"{one} {two} {other}")


def test_series_that_share_a_number_or_have_none_are_told_apart(
    tmp_path: Path, upright: Volume, write_series: Any
) -> None:
    def unnumbered(dataset: Any, k: int) -> None:
        dataset.SeriesInstanceUID, dataset.SeriesNumber = "1.2.3.98", None

    def equal(dataset: Any, k: int) -> None:
        dataset.SeriesInstanceUID = "1.2.3.99"

    for place, edit in enumerate((None, unnumbered, equal)):
        for path in write_series(tmp_path / "x", upright, edit=edit):
            (tmp_path / "in" / "p").mkdir(parents=True, exist_ok=True)
            path.rename(tmp_path / "in" / "p" / f"{place}-{path.name}")
    names = [study.name for study in find_studies(tmp_path / "in")]
    assert len(names) == 3
    assert sum(bool(re.fullmatch("p--s3-[0-9a-f]{8}", name)) for name in names) == 2
    assert sum(bool(re.fullmatch("p--s[0-9a-f]{8}", name)) for name in names) == 1


def test_linked_scans_and_series_are_found(tmp_path: Path, chest: Volume, upright: Volume, write_series: Any) -> None:
    _tree(tmp_path, chest, "in/own.nii.gz", "far/p1/ct.nii.gz", "far/p1/deep/ct.nii.gz", "far/alone.nii.gz")
    write_series(tmp_path / "far" / "series", upright)
    for name, target in {"a": "far/p1", "b": "far/series", "one.nii.gz": "far/alone.nii.gz"}.items():
        (tmp_path / "in" / name).symlink_to(tmp_path / target)
    (tmp_path / "in" / "again").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "gone").symlink_to(tmp_path / "none")
    told: list[str] = []
    found = find_studies(tmp_path / "in", tell=told.append)
    assert [study.name for study in found] == ["a--ct", "a--deep--ct", "b--s3", "one", "own"]
    assert told == [
        "skipped links that lead nowhere: gone",
        "skipped links that lead to a folder that is searched anyway: again",
    ]
    shutil.rmtree(tmp_path / "far")
    for name in ("own.nii.gz", "again"):
        (tmp_path / "in" / name).unlink()
    with pytest.raises(InputError, match=r"holds no scans .*links that lead nowhere: a, b, gone and 1 more"):
        find_studies(tmp_path / "in")


@not_utf8
def test_a_series_in_a_folder_that_cannot_be_read_is_not_called_after_it(
    tmp_path: Path, upright: Volume, write_series: Any
) -> None:
    write_series(tmp_path / os.fsdecode(b"M\xfcller"), upright)
    (study,) = find_studies(tmp_path)
    assert re.fullmatch("scan-[0-9a-f]{8}", study.name)
    assert study.told(str(study.path)) == f"{tmp_path}/***"
    assert study.read().volume.shape == upright.shape
    assert find_studies(tmp_path, keep=True)[0].name.startswith("M-ller--s3-")


@not_utf8
def test_a_name_that_is_no_utf8_is_read_and_told(tmp_path: Path, chest: Volume) -> None:
    _tree(tmp_path, chest, "b.nii.gz")
    (tmp_path / "b.nii.gz").rename(tmp_path / os.fsdecode(b"M\xfcller.nii.gz"))
    (study,) = find_studies(tmp_path)
    assert study.read().volume.shape == chest.shape
    assert study.told(str(study.path)) == f"{tmp_path}/M\\udcfcller.nii.gz"


def test_dicom_series_are_found_beside_files(tmp_path: Path, chest: Volume, upright: Volume, write_series: Any) -> None:
    def second(dataset: Any, k: int) -> None:
        dataset.SeriesInstanceUID, dataset.SeriesNumber = "1.2.3.99", 8

    _tree(tmp_path, chest, "x.nii.gz")
    write_series(tmp_path / "p1", upright)
    write_series(tmp_path / "p2", upright)
    write_series(tmp_path / "p2", upright.crop((0, 0, 0), (3, 20, 24)), edit=second)
    write_series(tmp_path / "p3", upright, edit=lambda d, k: setattr(d, "Modality", "MR"))
    found = find_studies(tmp_path)
    assert [s.name for s in found] == ["p1--s3", "x"]  # p1 and p2 hold one and the same series


def test_two_series_of_one_folder_are_two_studies(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    def second(dataset: Any, k: int) -> None:
        dataset.SeriesInstanceUID, dataset.SeriesNumber = "1.2.3.99", 8

    write_series(tmp_path / "p1" / "a", upright)
    for path in write_series(tmp_path / "b", upright.with_array(upright.array + 3), edit=second):
        path.rename(tmp_path / "p1" / "a" / f"second-{path.name}")
    found = find_studies(tmp_path)
    assert [s.name for s in found] == ["p1--a--s3", "p1--a--s8"]
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
    assert (broken.name, whole.name) == ("p1--s3", "p2--s3")
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
    assert [study.name for study in find_studies(tmp_path)] == ["a--s3"]


def test_folder_of_one_series_is_named_after_itself(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    write_series(tmp_path / "p1", upright)
    assert [s.name for s in find_studies(tmp_path / "p1")] == ["p1--s3"]


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
    ("name", "clean"),
    [
        ("a__b", "a_b"),
        ("Käse 1/2", "Käse-1-2"),
        ("Ka\u0308se", "Käse"),
        ("患者１", "患者１"),
        ("कि", "कि"),
        ("a\x1b[31m\u202eb", "a-31m-b"),
        ("M\udcfcller", "M-ller"),
        ("..", "scan"),
        ("_x_", "x"),
        ("1.2.3", "1.2.3"),
    ],
)
def test_names_fit_file_systems_and_split_once(name: str, clean: str) -> None:
    assert clean_name(name) == clean
