"""Which files of a folder are the scan."""

from __future__ import annotations

import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from diffseglung.cli import main, run_command
from diffseglung.io import read_scan, read_volume
from diffseglung.io.dicom.headers import read_headers
from diffseglung.io.dicom.reader import list_series
from diffseglung.io.dicom.stack import read_images
from diffseglung.platform.errors import InputError
from diffseglung.volume import Volume
from tests.io.conftest import write_series_of
from tests.io.dicom_defects import put, write_good


def _other_series(dataset: Any, k: int) -> None:
    dataset.SeriesInstanceUID, dataset.SeriesNumber, dataset.SeriesDescription = "1.2.3.99", 8, "Lung"


def test_one_file_stands_for_its_series(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    paths = write_series(tmp_path, upright)
    assert np.array_equal(read_volume(paths[4]).array, upright.array)


def test_file_without_ending_is_recognised(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    for k, path in enumerate(write_series(tmp_path, upright)):
        path.rename(tmp_path / f"IM{k}")
    assert np.array_equal(read_volume(tmp_path / "IM3").array, upright.array)


def test_localiser_and_foreign_files_are_ignored(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    write_series(tmp_path, upright)

    def localiser(dataset: Any, k: int) -> None:
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]

    write_series(tmp_path / "scout", upright.crop((0, 0, 0), (1, 20, 24)), edit=localiser)
    (tmp_path / "readme.txt").write_text("hello")
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 200)
    (tmp_path / "._001.dcm").write_bytes(b"\0" * 200)
    assert np.array_equal(read_volume(tmp_path).array, upright.array)


def test_folder_of_localisers_is_refused(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    write_series(tmp_path, upright, edit=lambda d, k: setattr(d, "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]))
    with pytest.raises(InputError, match="only localisers"):
        read_volume(tmp_path)


def test_localiser_file_is_refused(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    def edit(dataset: Any, k: int) -> None:
        if k == 0:
            dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    paths = write_series(tmp_path, upright, edit=edit)
    with pytest.raises(InputError, match="not a CT slice"):
        read_volume(paths[0])


def test_mr_is_refused_by_name(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    write_series(tmp_path, upright, edit=lambda d, k: setattr(d, "Modality", "MR"))
    with pytest.raises(InputError, match="no CT but MR"):
        read_volume(tmp_path)


def test_folder_without_dicom_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(InputError, match="no DICOM files"):
        read_volume(tmp_path)


def test_text_named_dcm_is_refused(tmp_path: Path) -> None:
    (tmp_path / "slice.dcm").write_text("not an image")
    with pytest.raises(InputError, match="not a readable DICOM file"):
        read_volume(tmp_path / "slice.dcm")


def test_zero_size_series_is_refused(tmp_path: Path) -> None:
    for k in range(5):
        (tmp_path / f"{k}.dcm").touch()
    with pytest.raises(InputError, match="no DICOM files"):
        read_volume(tmp_path)


def test_longest_series_is_taken_when_twice_as_long(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    write_series(tmp_path / "a", upright)
    write_series(tmp_path / "b", upright.crop((0, 0, 0), (5, 20, 24)), edit=_other_series)
    assert read_volume(tmp_path).shape == upright.shape


def test_equal_series_must_be_chosen(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    write_series(tmp_path / "a", upright)
    write_series(tmp_path / "b", upright.with_array(upright.array + 5), edit=_other_series)
    with pytest.raises(InputError, match=r"2 CT series: 3 \(Thorax, 12 slices\); 8 \(Lung, 12 slices\)"):
        read_volume(tmp_path)
    assert np.array_equal(read_volume(tmp_path, series_uid="8").array, upright.array + 5)
    assert np.array_equal(read_volume(tmp_path, series_uid="1.2.3.99").array, upright.array + 5)
    with pytest.raises(InputError, match="no series 11"):
        read_volume(tmp_path, series_uid="11")


def test_axial_series_wins_over_longer_reformats(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    coronal = upright.affine[:, [1, 0, 2, 3]]
    longer = Volume(np.ascontiguousarray(np.concatenate([upright.array] * 3, 1).transpose(1, 0, 2)), coronal)
    write_series(tmp_path / "a", upright)
    write_series(tmp_path / "b", longer, edit=_other_series)
    assert read_volume(tmp_path).shape == upright.shape


def test_dicomdir_stands_for_its_folder(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    write_series(tmp_path / "IMAGES" / "A", upright)
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.1.3.10", "1.2.3"
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    index = pydicom.dataset.FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    index.save_as(tmp_path / "DICOMDIR", enforce_file_format=True)
    for path in (tmp_path, tmp_path / "DICOMDIR"):
        assert np.array_equal(read_volume(path).array, upright.array)


@st.composite
def scans(draw: st.DrawFn) -> tuple[Volume, list[int], list[str]]:
    """A volume anywhere in the patient, a reading order of its slices, and names for their files."""
    shape = tuple(draw(st.integers(8, 11)) for _ in range(3))
    spacing = [draw(st.integers(30, 500)) / 100 for _ in range(3)]
    turn = Rotation.from_rotvec([draw(st.integers(-25, 25)) / 10 for _ in range(3)]).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(spacing)
    affine[:3, 3] = [draw(st.integers(-4000, 4000)) / 10 for _ in range(3)]
    hu = np.random.default_rng(draw(st.integers(0, 99))).integers(-1000, 400, shape).astype(np.float32)
    order = draw(st.permutations(range(shape[0])))
    endings = draw(st.sampled_from(["", ".dcm", ".IMA", ".DCM", ".1"]))
    folders = [draw(st.sampled_from(["", "a/", "b/c/"])) for _ in order]
    return Volume(hu, affine), list(order), [f"{folder}{k}{endings}" for k, folder in enumerate(folders)]


@settings(max_examples=15, deadline=None, derandomize=True)
@given(scans())
def test_any_stack_in_any_order_is_the_same_volume_in_the_patient(found: tuple[Volume, list[int], list[str]]) -> None:
    volume, order, names = found
    with tempfile.TemporaryDirectory() as folder:
        paths = write_series_of(Path(folder) / "raw", volume)
        for k, name in zip(order, names, strict=True):
            (Path(folder) / "series" / name).parent.mkdir(parents=True, exist_ok=True)
            paths[k].rename(Path(folder) / "series" / name)
        scan = read_scan(Path(folder) / "series")
        again = [next(read_images(read_headers(frame.path))) for frame in scan.frames]
    assert np.array_equal(scan.volume.array, again)
    index = np.indices(scan.volume.shape).reshape(3, -1)
    points = scan.volume.affine @ np.vstack([index, np.ones(index.shape[1])])
    source = np.linalg.solve(volume.affine, points)[:3]
    assert np.abs(source - np.rint(source)).max() < 1e-3
    assert np.array_equal(scan.volume.array.ravel(), volume.array[tuple(np.rint(source).astype(int))])


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Four series: soft and sharp, a localiser, an MR."""
    write_good(tmp_path / "study" / "soft")
    put(write_good(tmp_path / "study" / "sharp"), SeriesInstanceUID="1.2.9", SeriesNumber=4, ConvolutionKernel="B70f")
    put(
        write_good(tmp_path / "study" / "scout")[:1],
        SeriesInstanceUID="1.2.8", SeriesNumber=1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
    )  # fmt: skip
    for path in sorted((tmp_path / "study" / "scout").glob("*.dcm"), key=lambda p: int(p.stem.split("-")[1]))[1:]:
        path.unlink()
    put(write_good(tmp_path / "study" / "mr"), SeriesInstanceUID="1.2.7", SeriesNumber=20, Modality="MR")
    return tmp_path / "study"


def test_every_series_has_a_row(study: Path) -> None:
    rows = list_series(study)
    assert [row["number"] for row in rows] == ["1", "3", "4", "20"]
    assert [row["chosen"] for row in rows] == [False, True, False, False]
    assert [row["problem"] for row in rows] == ["is not a CT but localiser", None, None, "is not a CT but MR"]
    assert (rows[2]["kernel"], rows[2]["slices"], rows[2]["spacing_mm"]) == ("B70f", 12, 2.0)
    assert "Secret" not in json.dumps(rows)


def test_archive_is_listed_like_its_folder(study: Path) -> None:
    with zipfile.ZipFile(study.parent / "a.zip", "w") as archive:
        for path in study.rglob("*.dcm"):
            archive.write(path, str(path.relative_to(study)))
    assert list_series(study.parent / "a.zip") == list_series(study)


def test_listing_a_folder_without_dicom_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no DICOM files"):
        list_series(tmp_path)


def test_info_prints_the_table_and_the_chosen_scan(study: Path, capsys: Any) -> None:
    assert run_command("info", [str(study)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["number", "description", "kernel", "thick"]
    assert lines[2].startswith(">  3  ")
    assert lines[4].endswith("is not a CT but MR")
    assert "> series 3 is used unless --series names another" in lines
    assert "shape_zyx: [12, 16, 16]" in lines


def test_info_as_json(study: Path, capsys: Any) -> None:
    assert run_command("info", [str(study), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kind"] == "scan"
    assert [row["number"] for row in found["series"]] == ["1", "3", "4", "20"]
    assert run_command("info", [str(study), "--series", "4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert "series" not in found
    assert found["kernel"] == "B70f"


def test_series_that_is_no_ct_is_named_as_such(study: Path, capsys: Any) -> None:
    assert main(["info", str(study), "--series", "20"]) == 2
    said = capsys.readouterr().err
    assert "series 20 of" in said
    assert "is not a CT but MR" in said
    assert "choose one of: 3 (Thorax, 12 slices); 4 (" in said


def test_info_lists_what_it_cannot_choose_between(study: Path, capsys: Any) -> None:
    put(list((study / "sharp").iterdir()), ConvolutionKernel="B30f")
    assert run_command("info", [str(study), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kind"] == "series"
    assert "holds 2 CT series" in found["problem"]
    assert not any(row["chosen"] for row in found["series"])
    assert main(["info", str(study)]) == 0
    assert "no series would be used: choose one with --series NUMBER" in capsys.readouterr().out
