"""Pixels come out as HU whatever transfer syntax and number type they lie in; files that lie are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom import uid

from diffseglung.io import read_volume
from diffseglung.io.dicom.headers import read_headers
from diffseglung.io.dicom.pixels import read_images
from diffseglung.platform.errors import InputError
from diffseglung.volume import Volume

GDCM = {
    uid.JPEGLosslessSV1: "JPEG",
    uid.JPEGLossless: "JPEG",  # process 14 with any predictor: the first is one
    uid.JPEG2000Lossless: "JPEG2000",
}
"""Encoders that come with SimpleITK; pydicom has none for these."""
PLAIN = (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian)
SYNTAXES = (*PLAIN, uid.ExplicitVRBigEndian, uid.RLELossless, uid.JPEGLSLossless, *GDCM)
KINDS = {"signed": (16, 1, 0), "unsigned": (16, 0, -1024), "twelve bits": (12, 0, -1024)}


def encode(folder: Path, stored: np.ndarray, codec: str) -> bytes:
    """One frame, compressed by GDCM."""
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(folder / "encoded.dcm"))
    writer.UseCompressionOn()
    writer.SetCompressor(codec)
    writer.Execute(sitk.GetImageFromArray(stored[None]))
    return next(pydicom.encaps.generate_frames(pydicom.dcmread(folder / "encoded.dcm").PixelData, number_of_frames=1))


def store(path: Path, syntax: str, kind: str, hu: np.ndarray, folder: Path) -> None:
    """Change a file so that it holds `hu` as this kind of number in this transfer syntax."""
    bits, signed, intercept = KINDS[kind]
    dataset = pydicom.dcmread(path)
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = bits, bits - 1, signed
    dataset.RescaleIntercept = str(intercept)
    stored = (hu - intercept).astype(np.int16 if signed else np.uint16)
    dataset.PixelData = stored.tobytes()
    dataset["PixelData"].VR = "OW"
    if syntax in (uid.RLELossless, uid.JPEGLSLossless):
        dataset.compress(syntax, generate_instance_uid=False)
    elif syntax in GDCM:
        dataset.PixelData = pydicom.encaps.encapsulate([encode(folder, stored, GDCM[syntax])])
        dataset["PixelData"].is_undefined_length = True
    elif syntax == uid.ExplicitVRBigEndian:
        dataset.PixelData = stored.byteswap().tobytes()
    dataset.file_meta.TransferSyntaxUID = syntax
    if syntax == uid.ExplicitVRBigEndian:
        pydicom.dcmwrite(path, dataset, implicit_vr=False, little_endian=False)
    else:
        dataset.save_as(path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda u: uid.UID(u).keyword)
def test_every_transfer_syntax_gives_the_same_hu(
    tmp_path: Path, upright: Volume, write_series: Any, syntax: str, kind: str
) -> None:
    for path in write_series(tmp_path / "s", upright):
        store(path, syntax, kind, upright.array[int(path.stem.split("-")[1])], tmp_path)
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(read_volume(tmp_path / "s").array, upright.array)


def test_transfer_syntaxes_may_be_mixed(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    for k, path in enumerate(write_series(tmp_path / "s", upright)):
        store(path, SYNTAXES[k % len(SYNTAXES)], list(KINDS)[k % 3], upright.array[k], tmp_path)
    assert np.array_equal(read_volume(tmp_path / "s").array, upright.array)


@pytest.mark.parametrize(
    ("syntax", "stated", "accepted"),
    [
        (uid.JPEG2000, "00", True), (uid.JPEG2000, None, False), (uid.JPEG2000Lossless, None, True),
        (uid.JPEGLSNearLossless, None, False), (uid.JPEGExtended12Bit, "00", False), (uid.MPEG2MPML, None, False),
        (uid.JPEG2000Lossless, "01", False),
    ],
)  # fmt: skip
def test_loss_is_told_from_the_header(
    tmp_path: Path, upright: Volume, write_series: Any, syntax: str, stated: str | None, accepted: bool
) -> None:
    (path, *_) = write_series(tmp_path / "s", upright)
    store(path, uid.JPEG2000Lossless, "unsigned", upright.array[0], tmp_path)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = syntax
    if stated:
        dataset.LossyImageCompression = stated
    dataset.save_as(path)
    (header,) = read_headers(path)
    assert header.lossy != accepted
    if accepted:
        assert np.array_equal(next(read_images([header])), upright.array[0])


@pytest.mark.parametrize("syntax", SYNTAXES[4:], ids=lambda u: uid.UID(u).keyword)
@pytest.mark.parametrize("share", [0.3, 0.95])
def test_compressed_pixels_that_are_cut_short_are_never_filled_up(
    tmp_path: Path, upright: Volume, write_series: Any, syntax: str, share: float
) -> None:
    path = write_series(tmp_path / "s", upright)[0]
    store(path, syntax, "signed", upright.array[0], tmp_path)
    dataset = pydicom.dcmread(path)
    frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData = pydicom.encaps.encapsulate([frame[: int(len(frame) * share) // 2 * 2]])
    dataset.save_as(path)
    with pytest.raises(InputError, match=r"000-0\.dcm is damaged: its compressed pixels"):
        next(read_images(read_headers(path)))


@pytest.mark.parametrize("slope", [0.1, 2.0])
def test_fractional_slopes_are_exact_through_every_decoder(
    tmp_path: Path, upright: Volume, write_series: Any, slope: float
) -> None:
    plain, packed = (write_series(tmp_path / name, upright, slope=slope)[3] for name in ("a", "b"))
    dataset = pydicom.dcmread(packed)
    dataset.PixelData = pydicom.encaps.encapsulate([encode(tmp_path, dataset.pixel_array, "JPEG")])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = uid.JPEGLosslessSV1
    dataset.save_as(packed)
    images = [next(read_images(read_headers(path))) for path in (plain, packed)]
    assert np.array_equal(*images)


def test_signed_padding_in_an_unsigned_header(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    """Signed pixels with the padding value written as an unsigned number: -2000 as 63536."""

    def edit(dataset: Any, k: int) -> None:
        stored = np.frombuffer(dataset.PixelData, "<i2").reshape(20, 24).copy()
        stored[:2] = -2000
        dataset.PixelData = stored.tobytes()
        dataset.add_new("PixelPaddingValue", "US", 63536)

    path = write_series(tmp_path, upright, edit=edit)[0]
    hu = next(read_images(read_headers(path)))
    assert (hu[:2] == -1024).all()
    assert np.array_equal(hu[2:], upright.array[0, 2:])


@pytest.mark.parametrize("value", [40, 0, -850, -1000])
def test_padding_that_reads_as_tissue_takes_no_tissue(
    tmp_path: Path, upright: Volume, write_series: Any, value: int
) -> None:
    """Corners of the padding's value are outside the field of view; single voxels of the same value inside are not."""
    inside = upright.array.copy()
    inside[:, 5:15:3, 5:19:3] = value
    stored = inside.copy()
    outside = np.add.outer(np.arange(20), np.arange(24)) < 8
    stored[:, outside] = value

    path = write_series(
        tmp_path, upright.with_array(stored), edit=lambda d, k: d.add_new("PixelPaddingValue", "SS", value + 1024)
    )[0]
    hu = next(read_images(read_headers(path)))
    assert (hu[outside] == -1024).all()
    assert np.array_equal(hu[~outside], inside[0][~outside])


def test_file_that_changes_its_matrix_between_header_and_pixels(
    tmp_path: Path, upright: Volume, write_series: Any
) -> None:
    path = write_series(tmp_path, upright)[0]
    (header,) = read_headers(path)
    dataset = pydicom.dcmread(path)
    dataset.Rows, dataset.Columns = 24, 20
    dataset.save_as(path)
    with pytest.raises(InputError, match="damaged: its pixels cannot be read"):
        next(read_images([header]))
