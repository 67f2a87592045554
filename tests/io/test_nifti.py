"""Same grid in, same grid out; bytes that depend on the content only; damaged files are named."""

from __future__ import annotations

import gzip
import struct
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from diffseglung.io import read_mask, read_volume
from diffseglung.io.nifti import read, read_nifti, write_nifti
from diffseglung.labels import ALL
from diffseglung.platform.errors import GeometryError, InputError
from diffseglung.volume import Volume

NAMES = {label.id: label.name for label in ALL}


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.int32])
def test_round_trip_is_exact(tmp_path: Path, chest: Volume, ending: str, dtype: Any) -> None:
    volume = chest.with_array((chest.array + 1024).clip(0, 255).astype(dtype))
    write_nifti(tmp_path / f"a{ending}", volume)
    found = read_nifti(tmp_path / f"a{ending}")
    assert found.array.dtype == dtype
    assert np.array_equal(found.array, volume.array)
    assert np.allclose(found.affine, volume.affine, rtol=1e-6, atol=1e-5)  # the header holds float32


def test_label_map_has_the_affine_of_its_input_to_the_bit(tmp_path: Path, chest: Volume) -> None:
    write_nifti(tmp_path / "ct.nii.gz", chest)
    ct = read_nifti(tmp_path / "ct.nii.gz")
    write_nifti(tmp_path / "labels.nii.gz", ct.with_array((ct.array > 0).astype(np.uint8)), names=NAMES)
    one, other = nib.load(tmp_path / "ct.nii.gz"), nib.load(tmp_path / "labels.nii.gz")
    assert np.array_equal(one.affine, other.affine)
    assert one.shape == other.shape
    assert np.allclose(one.header.get_qform(), other.header.get_qform(), atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 8.0)] * 3),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
    order=st.permutations([0, 1, 2]),
    flips=st.tuples(*[st.booleans()] * 3),
)
def test_any_affine_survives(
    tmp_path_factory: pytest.TempPathFactory, angles: Any, spacing: Any, origin: Any, order: Any, flips: Any
) -> None:
    """Rotated, anisotropic, permuted and flipped grids: every voxel stays at its point to 0.01 mm."""
    a, b, c = (np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]]) for t in angles)
    rotation = np.eye(3)
    for plane, turn in (((0, 1), a), ((1, 2), b), ((0, 2), c)):
        step = np.eye(3)
        step[np.ix_(plane, plane)] = turn
        rotation = rotation @ step
    affine = np.eye(4)
    affine[:3, :3] = (rotation * spacing * np.where(flips, -1, 1))[:, order]
    affine[:3, 3] = origin
    volume = Volume(np.arange(24, dtype=np.int16).reshape(2, 3, 4), affine)
    path = tmp_path_factory.mktemp("affine") / "a.nii"
    write_nifti(path, volume)
    found = read_nifti(path)
    assert found.same_grid(volume)
    assert np.array_equal(found.array, volume.array)


def test_itk_sees_the_same_grid(tmp_path: Path, chest: Volume) -> None:
    """An independent reader, in LPS as we are, finds each voxel where we put it."""
    write_nifti(tmp_path / "a.nii.gz", chest)
    image = sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    assert np.array_equal(sitk.GetArrayFromImage(image), chest.array)
    for index in ((0, 0, 0), (3, 5, 7), (11, 19, 23)):
        point = image.TransformIndexToPhysicalPoint(index[::-1])
        assert np.allclose(point, (chest.affine @ [*index, 1])[:3], atol=1e-3)


def test_both_forms_are_set(tmp_path: Path, chest: Volume) -> None:
    write_nifti(tmp_path / "a.nii", chest)
    header = nib.load(tmp_path / "a.nii").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    assert header.get_xyzt_units()[0] == "mm"
    assert np.allclose(header.get_sform(), header.get_qform(), atol=1e-4)


def test_bytes_are_reproducible(tmp_path: Path, chest: Volume) -> None:
    for name in ("a.nii.gz", "b.nii.gz"):
        write_nifti(tmp_path / name, chest, names=NAMES)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert (tmp_path / "a.nii.gz").read_bytes()[4:8] == b"\0\0\0\0"  # gzip's time stamp
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nii.gz", "b.nii.gz"]


def test_label_names_are_in_the_header(tmp_path: Path, chest: Volume) -> None:
    path = tmp_path / "labels.nii.gz"
    write_nifti(path, chest.with_array((chest.array > 0).astype(np.uint8)), names={**NAMES, 9: "a < b & c"})
    content = nib.load(path).header.extensions[0].get_content()
    labels = ElementTree.fromstring(bytes(content).strip()).findall("VolumeInformation/LabelTable/Label")
    assert {int(label.get("Key", -1)): label.text for label in labels} == {**NAMES, 9: "a < b & c"}
    assert sitk.ReadImage(str(path)).GetPixelID() == sitk.sitkUInt8
    assert np.array_equal(read_mask(path).array, chest.array > 0)


def test_plain_files_have_no_names(tmp_path: Path, chest: Volume) -> None:
    write_nifti(tmp_path / "a.nii", chest)
    assert not nib.load(tmp_path / "a.nii").header.extensions


def test_booleans_become_bytes(tmp_path: Path, chest: Volume) -> None:
    write_nifti(tmp_path / "a.nii", chest.with_array(chest.array > 0))
    assert read_nifti(tmp_path / "a.nii").array.dtype == np.uint8


def test_interrupted_write_leaves_the_old_file(tmp_path: Path, chest: Volume, monkeypatch: Any) -> None:
    path = tmp_path / "a.nii.gz"
    write_nifti(path, chest)
    before = path.read_bytes()

    def fail(self: Path, target: Path) -> Path:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_nifti(path, chest.with_array(chest.array * 0))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.nii.gz"]


def test_other_endings_are_refused(tmp_path: Path, chest: Volume) -> None:
    with pytest.raises(InputError, match="not have the name of a NIfTI file"):
        write_nifti(tmp_path / "a.mha", chest)


def _save(path: Path, array: np.ndarray, affine: np.ndarray | None = None, **codes: int) -> None:
    image = nib.Nifti1Image(array, np.eye(4) if affine is None else affine)
    for name, code in codes.items():
        image.header[name] = code
    nib.save(image, path)


def test_scaled_data_are_unscaled(tmp_path: Path, chest: Volume) -> None:
    _save(tmp_path / "a.nii", ((chest.array.T + 1024) * 2).astype(np.int16))
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[112:120] = np.array([0.5, -1024], "<f4").tobytes()  # scl_slope, scl_inter
    (tmp_path / "a.nii").write_bytes(content)
    found = read_nifti(tmp_path / "a.nii").array
    assert found.dtype == np.float32
    assert np.array_equal(found, chest.array)


def test_one_time_point_is_a_volume(tmp_path: Path, chest: Volume) -> None:
    _save(tmp_path / "a.nii", chest.array.T[..., None])
    assert np.array_equal(read_nifti(tmp_path / "a.nii").array, chest.array)


@pytest.mark.parametrize(
    ("shape", "word"),
    [((9, 9), "2D image"), ((9, 9, 1), "2D image"), ((9, 9, 9, 3), "3 volumes"), ((9, 0, 9), "no voxels")],
)
def test_other_shapes_are_refused(tmp_path: Path, shape: tuple[int, ...], word: str) -> None:
    _save(tmp_path / "a.nii", np.zeros(shape, np.int16))
    with pytest.raises(InputError, match=word):
        read_nifti(tmp_path / "a.nii")


def test_colour_is_refused(tmp_path: Path) -> None:
    _save(tmp_path / "a.nii", np.zeros((9, 9, 9), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])))
    with pytest.raises(InputError, match="not one number each"):
        read_nifti(tmp_path / "a.nii")


def test_qform_alone_gives_the_grid(tmp_path: Path, chest: Volume) -> None:
    write_nifti(tmp_path / "a.nii", chest)
    image = nib.load(tmp_path / "a.nii")
    image.header["sform_code"] = 0
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), None, image.header), tmp_path / "b.nii")
    scan = read(tmp_path / "b.nii")
    assert scan.volume.same_grid(chest)
    assert scan.notes == []


def test_no_orientation_is_noted(tmp_path: Path, chest: Volume) -> None:
    _save(tmp_path / "a.nii", chest.array.T)
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[252:256] = b"\0\0\0\0"  # qform_code and sform_code
    (tmp_path / "a.nii").write_bytes(content)
    assert any("no orientation" in note for note in read(tmp_path / "a.nii").notes)


def test_disagreeing_forms_are_noted(tmp_path: Path, chest: Volume) -> None:
    image = nib.Nifti1Image(chest.array.T, np.eye(4))
    image.set_sform(np.diag([2.0, 2, 2, 1]), code=1)
    image.set_qform(np.eye(4), code=1)
    nib.save(image, tmp_path / "a.nii")
    assert any("disagree" in note for note in read(tmp_path / "a.nii").notes)


@pytest.mark.parametrize(
    ("place", "value"),
    [(80, struct.pack("<f", 0.0)), (80, struct.pack("<f", -0.7)), (252, struct.pack("<h", 99)), (254, b"c\0")],
)
def test_the_library_tells_nothing_of_odd_headers(
    place: int, value: bytes, tmp_path: Path, chest: Volume, caplog: pytest.LogCaptureFixture
) -> None:
    """Widths of 0 and below, unknown codes: what matters of them is an error or a note of the scan."""
    write_nifti(tmp_path / "a.nii", chest)
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[place : place + len(value)] = value
    (tmp_path / "a.nii").write_bytes(content)
    read(tmp_path / "a.nii")
    assert caplog.records == []


def test_singular_grid_is_refused(tmp_path: Path, chest: Volume) -> None:
    _save(tmp_path / "a.nii", chest.array.T)
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[280:328] = bytes(48)  # srow_x, srow_y, srow_z
    content[252:254] = b"\0\0"
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(GeometryError, match="singular"):
        read_nifti(tmp_path / "a.nii")


@pytest.mark.parametrize("rows", [np.zeros((3, 4)), np.full((3, 4), np.nan), np.eye(4)[[0, 1, 1]]])
def test_a_valid_qform_stands_in_for_an_unusable_sform(tmp_path: Path, chest: Volume, rows: np.ndarray) -> None:
    write_nifti(tmp_path / "a.nii", chest)
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[280:328] = rows.astype("<f4").tobytes()  # srow_x, srow_y, srow_z
    (tmp_path / "a.nii").write_bytes(content)
    scan = read(tmp_path / "a.nii")
    assert scan.volume.same_grid(chest)
    assert scan.notes == ["the NIfTI sform is singular or not finite; the qform was used"]


def _text(path: Path, good: bytes) -> None:
    path.write_text("this is not an image")


def _gzipped_text(path: Path, good: bytes) -> None:
    path.write_bytes(gzip.compress(b"this is not an image" * 100))


def _truncated(path: Path, good: bytes) -> None:
    path.write_bytes(good[: len(good) // 2])


def _flipped_bits(path: Path, good: bytes) -> None:
    path.write_bytes(good[:1000] + bytes(255 - byte for byte in good[1000:1200]) + good[1200:])


def _header_only(path: Path, good: bytes) -> None:
    path.write_bytes(gzip.compress(gzip.decompress(good)[:352]))


def _absurd_shape(path: Path, good: bytes) -> None:
    raw = bytearray(gzip.decompress(good))
    raw[42:48] = b"\xff\x7f" * 3
    path.write_bytes(gzip.compress(bytes(raw)))


@pytest.mark.parametrize("damage", [_text, _gzipped_text, _truncated, _flipped_bits, _header_only, _absurd_shape])
def test_damaged_files_are_refused(tmp_path: Path, chest: Volume, damage: Any) -> None:
    good, bad = tmp_path / "good.nii.gz", tmp_path / "bad.nii.gz"
    write_nifti(good, chest)
    damage(bad, good.read_bytes())
    with pytest.raises(InputError, match=r"bad\.nii\.gz (cannot be read as NIfTI|is damaged)"):
        read_volume(bad)


@pytest.mark.parametrize(
    ("code", "mm"), [(0, 1), (1, 1000), (2, 1), (3, 1e-3), (1 | 8, 1000), (2 | 8, 1), (3 | 16, 1e-3)]
)
@pytest.mark.parametrize("form", ["sform", "qform", "neither"])
def test_lengths_in_any_unit_become_millimetres(
    tmp_path: Path, chest: Volume, upright: Volume, code: int, mm: float, form: str
) -> None:
    volume = upright if form == "neither" else chest
    write_nifti(tmp_path / "mm.nii", volume)
    image: Any = nib.load(tmp_path / "mm.nii")
    ras = image.affine.copy()
    ras[:3] /= mm
    for name in ("sform", "qform"):
        getattr(image.header, f"set_{name}")(ras if name == form else None, code=int(name == form))
    image.header["pixdim"][1:4] = np.linalg.norm(ras[:3, :3], axis=0)
    image.header["xyzt_units"] = code
    with (tmp_path / "a.nii").open("wb") as file:
        image.header.write_to(file)
        file.write((tmp_path / "mm.nii").read_bytes()[file.tell() :])
    scan = read(tmp_path / "a.nii")
    assert scan.volume.spacing_mm == pytest.approx(volume.spacing_mm, rel=1e-5)
    if form != "neither":
        assert scan.volume.affine == pytest.approx(volume.affine, rel=1e-4, abs=1e-4)
    assert any("converted to mm" in note for note in scan.notes) == (mm != 1)
    write_nifti(tmp_path / "labels.nii", scan.volume)
    assert nib.load(tmp_path / "labels.nii").header.get_xyzt_units()[0] == "mm"
    assert read(tmp_path / "labels.nii").volume.same_grid(scan.volume, 1e-4)


def test_an_impossible_spacing_names_the_unit(tmp_path: Path, chest: Volume) -> None:
    write_nifti(tmp_path / "a.nii", chest)
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[123] = 3
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(GeometryError, match=r"impossible voxel spacing .*lengths in 'um'"):
        read_volume(tmp_path / "a.nii")
