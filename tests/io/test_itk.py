"""NRRD and MetaImage: the same grid as ITK's own, damaged files named."""

from __future__ import annotations

import bz2
import gzip
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from diffseglung.io import read_mask, read_scan, read_volume
from diffseglung.platform.errors import GeometryError, InputError
from diffseglung.volume import Volume
from tests.toys import not_utf8


def _image(volume: Volume) -> sitk.Image:
    image = sitk.GetImageFromArray(volume.array)
    spacing = np.array(volume.spacing_mm)
    image.SetSpacing(spacing[::-1].tolist())
    image.SetOrigin(volume.affine[:3, 3].tolist())
    image.SetDirection((volume.affine[:3, :3] / spacing)[:, ::-1].ravel().tolist())
    return image


@pytest.mark.parametrize("ending", [".nrrd", ".nhdr", ".mha", ".mhd"])
def test_oblique_grid_comes_back(tmp_path: Path, chest: Volume, ending: str) -> None:
    sitk.WriteImage(_image(chest), str(tmp_path / f"a{ending}"))
    scan = read_scan(tmp_path / f"a{ending}")
    assert np.array_equal(scan.volume.array, chest.array)
    assert scan.volume.array.dtype == np.float32
    assert scan.volume.same_grid(chest, 1e-6)
    assert scan.source["format"] == ("NRRD" if ending in (".nrrd", ".nhdr") else "MetaImage")
    assert not any("orientation" in note for note in scan.notes)


def test_ending_may_be_in_capitals(tmp_path: Path, chest: Volume) -> None:
    sitk.WriteImage(_image(chest), str(tmp_path / "a.mha"))
    (tmp_path / "a.mha").rename(tmp_path / "A.MHA")
    assert read_volume(tmp_path / "A.MHA").same_grid(chest, 1e-6)


def test_masks_keep_their_labels(tmp_path: Path, chest: Volume) -> None:
    labels = chest.with_array((chest.array > -500).astype(np.uint16) * 700)
    sitk.WriteImage(_image(labels), str(tmp_path / "m.nrrd"))
    assert set(np.unique(read_mask(tmp_path / "m.nrrd").array)) == {0, 700}


def test_nrrd_without_space_is_noted(tmp_path: Path, chest: Volume) -> None:
    head = (
        "NRRD0004\ntype: short\ndimension: 3\nsizes: 24 20 12\nspacings: 0.7 0.8 2.5\nendian: little\nencoding: raw\n\n"
    )
    (tmp_path / "a.nrrd").write_bytes(head.encode() + chest.array.astype("<i2").tobytes())
    assert any("no orientation" in note for note in read_scan(tmp_path / "a.nrrd").notes)


def test_flat_and_coloured_images_are_refused(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.Image(9, 9, sitk.sitkInt16), str(tmp_path / "flat.mha"))
    sitk.WriteImage(sitk.Image(9, 9, 1, sitk.sitkInt16), str(tmp_path / "thin.mha"))
    sitk.WriteImage(sitk.Image([9, 9, 9], sitk.sitkVectorUInt8, 3), str(tmp_path / "colour.mha"))
    sitk.WriteImage(sitk.Image([9, 9, 9, 2], sitk.sitkInt16), str(tmp_path / "time.nrrd"))
    for name, word in (("flat", "2D"), ("thin", "2D"), ("colour", "3 values per voxel"), ("time", "2 volumes")):
        with pytest.raises(InputError, match=word):
            read_volume(next(tmp_path.glob(f"{name}.*")))


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".mhd"])
def test_text_is_refused(tmp_path: Path, ending: str, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / f"a{ending}").write_text("not an image")
    with pytest.raises(InputError, match="cannot be read as NRRD or MetaImage"):
        read_volume(tmp_path / f"a{ending}")
    assert capfd.readouterr().err == ""


def test_truncated_file_is_refused(tmp_path: Path, chest: Volume) -> None:
    path = tmp_path / "a.mha"
    sitk.WriteImage(_image(chest), str(path))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match="cannot be read"):
        read_volume(path)


def test_missing_raw_file_is_refused(tmp_path: Path, chest: Volume) -> None:
    sitk.WriteImage(_image(chest), str(tmp_path / "a.mhd"))
    (tmp_path / "a.raw").unlink()
    with pytest.raises(InputError, match=r"no file a\.raw beside it") as caught:
        read_volume(tmp_path / "a.mhd")
    assert "neighbour" in caught.value.remedy


LATIN = b"M\xfcller"
"""No UTF-8."""
DIRECTIONS = (
    "space: left-posterior-superior\nspace directions: ({0},0,0) (0,{1},0) (0,0,{2})\nspace origin: ({3},0,0)\n"
)


def nrrd(*more: str, lengths: str = DIRECTIONS, scale: float = 1.0, encoding: str = "raw") -> bytes:
    grid = lengths.format(*(f"{n * scale:.9g}" for n in (0.7, 0.8, 2.5, 3.0)))
    lines = ["NRRD0004", "type: short", "dimension: 3", *grid.splitlines(), "sizes: 24 20 12", "endian: little"]
    return "\n".join([*lines, f"encoding: {encoding}", *more, ""]).encode()


def meta_image(data: bytes = b"LOCAL", scale: float = 1.0, unit: str = "mm") -> bytes:
    spacing, origin = (" ".join(f"{n * scale:.9g}" for n in line) for line in ((0.7, 0.8, 2.5), (3, 0, 0)))
    lines = [
        "ObjectType = Image",
        "NDims = 3",
        "BinaryData = True",
        f"Offset = {origin}",
        f"ElementSpacing = {spacing}",
    ]
    lines += [f"DistanceUnits = {unit}", "DimSize = 24 20 12", "ElementType = MET_SHORT", "ElementDataFile = "]
    return "\n".join(lines).encode() + data + b"\n"


def windows(header: bytes) -> bytes:
    return header.replace(b"\n", b"\r\n")


@pytest.fixture
def voxels(upright: Volume) -> bytes:
    return upright.array.astype("<i2").tobytes()


@pytest.fixture
def read_back(upright: Volume) -> Callable[[Path], list[str]]:
    """Read a file, compare it with the scan, return the notes."""

    def read(path: Path) -> list[str]:
        scan = read_scan(path)
        assert np.array_equal(scan.volume.array, upright.array)
        assert scan.volume.spacing_mm == pytest.approx(upright.spacing_mm)
        return scan.notes

    return read


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("change", [windows, bytes])
@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("raw", bytes), ("gzip", gzip.compress), ("bzip2", bz2.compress), ("bz2", bz2.compress), ("BZ2", bz2.compress)],
)
def test_every_encoding_and_line_end_of_nrrd(
    tmp_path: Path, voxels: bytes, read_back: Callable, encoding: str, pack: Callable, change: Callable, end: bytes
) -> None:
    (tmp_path / "a.nrrd").write_bytes(change(nrrd(encoding=encoding)) + end + pack(voxels))
    read_back(tmp_path / "a.nrrd")
    (tmp_path / "b.raw").write_bytes(pack(voxels))
    (tmp_path / "b.nhdr").write_bytes(change(nrrd("data file: b.raw", encoding=encoding)))
    read_back(tmp_path / "b.nhdr")


def test_bzip2_of_several_files_and_behind_other_bytes(tmp_path: Path, voxels: bytes, read_back: Callable) -> None:
    half = len(voxels) // 2
    for name, part in (("1.bz2", voxels[:half]), ("2.bz2", voxels[half:])):
        (tmp_path / name).write_bytes(bz2.compress(part))
    (tmp_path / "a.nhdr").write_bytes(nrrd("data file: LIST 2", "1.bz2", "2.bz2", encoding="bzip2"))
    read_back(tmp_path / "a.nhdr")
    (tmp_path / "b.nrrd").write_bytes(nrrd("line skip: 1", encoding="bzip2") + b"\njunk\n" + bz2.compress(voxels))
    read_back(tmp_path / "b.nrrd")
    (tmp_path / "c.nrrd").write_bytes(nrrd("byte skip: 4", encoding="bzip2") + b"\n" + bz2.compress(b"junk" + voxels))
    read_back(tmp_path / "c.nrrd")


def test_damaged_bzip2_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, voxels: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "t"))
    (tmp_path / "t").mkdir()
    packed = bz2.compress(voxels)
    for content in (packed[:-20], b"none", b"", bz2.compress(voxels[:999])):
        (tmp_path / "a.nrrd").write_bytes(nrrd(encoding="bzip2") + b"\n" + content)
        with pytest.raises(InputError, match=r"a\.nrrd cannot be read"):
            read_scan(tmp_path / "a.nrrd")
    assert not list((tmp_path / "t").iterdir())


@pytest.mark.parametrize(("unit", "mm"), [("um", 1e-3), ("cm", 10.0), ("m", 1000.0)])
def test_units_of_length_are_heeded(tmp_path: Path, voxels: bytes, read_back: Callable, unit: str, mm: float) -> None:
    axes = "spacings: {0} {1} {2}\nunits: "
    files = {
        "space.nrrd": nrrd("space units: " + " ".join([f'"{unit}"'] * 3), scale=1 / mm) + b"\n",
        "axis.nrrd": nrrd(lengths=axes + " ".join([f'"{unit}"'] * 3), scale=1 / mm) + b"\n",
        "a.mha": meta_image(scale=1 / mm, unit=unit),
    }
    for name, header in files.items():
        (tmp_path / name).write_bytes(header + voxels)
        assert f"the header gives lengths in {unit!r}; they were converted to mm" in read_back(tmp_path / name)
    assert read_scan(tmp_path / "a.mha").volume.affine[:3, 3].tolist() == pytest.approx([3, 0, 0])


def test_an_impossible_spacing_is_told_with_its_unit(tmp_path: Path, voxels: bytes) -> None:
    (tmp_path / "a.mha").write_bytes(meta_image(unit="um") + voxels)
    with pytest.raises(GeometryError, match=r"0\.0025 x 0\.0008 x 0\.0007 mm .*lengths in 'um'"):
        read_scan(tmp_path / "a.mha")


@pytest.mark.parametrize("name", [pytest.param(LATIN, marks=not_utf8), "Müller".encode(), "肺 1".encode(), b"plain"])
def test_any_name_of_header_and_data(tmp_path: Path, voxels: bytes, read_back: Callable, name: bytes) -> None:
    folder = tmp_path / os.fsdecode(name)
    folder.mkdir()
    data = folder / os.fsdecode(name + b".raw")
    data.write_bytes(voxels)
    for ending, content in (
        (b".nrrd", nrrd() + b"\n" + voxels),
        (b".NRRD", nrrd(encoding="bzip2") + b"\n" + bz2.compress(voxels)),
        (b".mha", meta_image() + voxels),
        (b".mhd", meta_image(name + b".raw")),
        (b".nhdr", nrrd() + b"data file: " + name + b".raw\n"),
    ):
        path = folder / os.fsdecode(name + ending)
        path.write_bytes(content)
        read_back(path)
