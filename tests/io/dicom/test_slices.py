"""One file: what its header says, and that damage is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from diffseglung.io import read_volume
from diffseglung.io.dicom.headers import read_headers
from diffseglung.io.dicom.pixels import read_images
from diffseglung.io.dicom.reader import find_images
from diffseglung.platform.errors import InputError
from diffseglung.volume import Volume


def test_header_holds_plain_values(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    path = write_series(tmp_path, upright)[2]
    (header,) = read_headers(path)
    assert not header.foreign
    assert (header.rows, header.columns, header.series_number) == (20, 24, "3")
    assert header.pixel_spacing == (0.8, 0.7)
    assert np.allclose(header.position, upright.affine[:3, 3] + 2 * upright.affine[:3, 0])
    assert header.tube_kv is None
    assert np.array_equal(next(read_images([header])), upright.array[2])


def test_other_files_have_no_header(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    assert read_headers(tmp_path / "a.txt") == ()


@pytest.mark.parametrize(
    ("tag", "value"), [("PixelSpacing", b"0.8]0.7 "), ("ImagePositionPatient", b"1\\2\\x "), ("Rows", b"\1")]
)
def test_damaged_header_is_named(tmp_path: Path, upright: Volume, write_series: Any, tag: str, value: bytes) -> None:
    paths = write_series(tmp_path, upright)
    dataset = pydicom.dcmread(paths[11])
    element = pydicom.dataelem.RawDataElement(
        pydicom.tag.Tag(tag), pydicom.datadict.dictionary_VR(tag), len(value), value, 0, False, True
    )
    dataset._dict[element.tag] = element
    dataset.save_as(paths[11])
    with pytest.raises(InputError, match=f"{paths[11].name} is damaged: its header"):
        read_volume(tmp_path)
    assert len(find_images(tmp_path)) == 11


@pytest.mark.parametrize("kind", [["ORIGINAL", "PRIMARY", "LOCALIZER"], ["DERIVED", "SECONDARY", "LOCALIZER"]])
def test_localisers_are_no_slices(tmp_path: Path, upright: Volume, write_series: Any, kind: list[str]) -> None:
    path = write_series(tmp_path, upright, edit=lambda d, k: setattr(d, "ImageType", kind))[0]
    (header,) = read_headers(path)
    assert header.foreign


def test_text_stays_on_one_line(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    path = write_series(tmp_path, upright)[0]
    content = path.read_bytes().replace(b"Thorax", b"Th\n\x1bax")
    path.write_bytes(content)
    (header,) = read_headers(path)
    assert header.description == "Th  ax"


def test_screenshots_are_no_slices(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    uid = pydicom.uid.SecondaryCaptureImageStorage
    path = write_series(tmp_path, upright, edit=lambda d, k: setattr(d, "SOPClassUID", uid))[0]
    (header,) = read_headers(path)
    assert header.foreign
