"""A stack of slices becomes the volume it was cut from; every defect is one error that names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom import uid

from diffseglung.io import read_scan, read_volume
from diffseglung.io.dicom import reader
from diffseglung.io.dicom.headers import read_headers
from diffseglung.io.dicom.stack import read_images
from diffseglung.platform.errors import GeometryError, InputError
from diffseglung.volume import Volume


def _right_handed(volume: Volume) -> Volume:
    """Reading sorts along row x column, so a left-handed grid comes back with Z reversed."""
    if np.linalg.det(volume.affine[:3, [2, 1, 0]]) > 0:
        return volume
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, 0] * (volume.shape[0] - 1)
    affine[:3, 0] *= -1
    return Volume(volume.array[::-1], affine)


def test_shuffled_oblique_series_comes_back_whole(tmp_path: Path, chest: Volume, write_series: Any) -> None:
    write_series(tmp_path, chest)
    found, wanted = read_volume(tmp_path), _right_handed(chest)
    assert np.array_equal(found.array, wanted.array)
    assert found.array.dtype == np.float32
    assert np.allclose(found.affine, wanted.affine, atol=1e-6)


def test_agrees_with_itk(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    write_series(tmp_path, upright)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    image = reader.Execute()
    found = read_volume(tmp_path)
    assert np.array_equal(found.array, sitk.GetArrayFromImage(image))
    assert np.allclose(found.affine[:3, 3], image.GetOrigin())
    assert np.allclose(found.spacing_mm, image.GetSpacing()[::-1])


def test_each_slice_has_its_own_slope_and_intercept(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    def edit(dataset: Any, k: int) -> None:
        if k % 2:
            stored = np.frombuffer(dataset.PixelData, "<i2").reshape(dataset.Rows, dataset.Columns)
            dataset.PixelData = ((stored - 1024 + 2000) * 2).astype("<i2").tobytes()
            dataset.RescaleSlope, dataset.RescaleIntercept = "0.5", "-2000"

    write_series(tmp_path, upright, edit=edit)
    assert np.array_equal(read_volume(tmp_path).array, upright.array)


@pytest.mark.parametrize("value", [-2000, 63536])
def test_padding_is_air(tmp_path: Path, upright: Volume, write_series: Any, value: int) -> None:
    def edit(dataset: Any, k: int) -> None:
        stored = np.frombuffer(dataset.PixelData, "<i2").reshape(dataset.Rows, dataset.Columns).copy()
        stored[:3] = -2000
        dataset.PixelData = stored.tobytes()
        dataset.add_new("PixelPaddingValue", "US" if value > 0 else "SS", value)

    write_series(tmp_path, upright, intercept=0, edit=edit)
    found = read_volume(tmp_path).array
    assert (found[:, :3] == -1024).all()
    assert np.array_equal(found[:, 3:], upright.array[:, 3:])


def test_missing_slice_is_named(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    write_series(tmp_path, upright)[5].unlink()
    with pytest.raises(GeometryError, match=r"lacks 1 of its slices: none at position 42\.8 mm"):
        read_volume(tmp_path)


def test_several_missing_slices_are_counted(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    for path in write_series(tmp_path, upright)[4:9]:
        path.unlink()
    with pytest.raises(GeometryError, match=r"lacks 5 of its slices.*and others"):
        read_volume(tmp_path)


def test_exact_copies_are_left_out(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    path = write_series(tmp_path, upright)[3]
    path.with_name("copy.dcm").write_bytes(path.read_bytes())
    scan = read_scan(tmp_path)
    assert np.array_equal(scan.volume.array, upright.array)
    assert any("exact copies" in note for note in scan.notes)


def test_two_images_at_one_position_are_refused(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    write_series(tmp_path / "a", upright)
    write_series(tmp_path / "b", upright.with_array(upright.array + 5))
    with pytest.raises(InputError, match="two different images at position"):
        read_volume(tmp_path)


def test_uneven_distances_are_refused(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    def edit(dataset: Any, k: int) -> None:
        if k > 5:
            x, y, z = dataset.ImagePositionPatient
            dataset.ImagePositionPatient = [x, y, z + 1]

    write_series(tmp_path, upright, edit=edit)
    with pytest.raises(GeometryError, match=r"uneven slice distances: 3\.50 mm"):
        read_volume(tmp_path)


def test_steep_tilt_is_refused_with_its_angle(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    def edit(dataset: Any, k: int) -> None:
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y + k * 2.5 * np.tan(np.deg2rad(35)), z]

    write_series(tmp_path, upright, edit=edit)
    with pytest.raises(GeometryError, match=r"sheared by 35\.0 degrees"):
        read_volume(tmp_path)


def test_stack_that_jumps_sideways_is_mixed(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    def edit(dataset: Any, k: int) -> None:
        if k == 6:
            x, y, z = dataset.ImagePositionPatient
            dataset.ImagePositionPatient = [x + 30, y, z]

    write_series(tmp_path, upright, edit=edit)
    with pytest.raises(GeometryError, match="mixed series"):
        read_volume(tmp_path)


@pytest.mark.parametrize(
    ("tag", "value", "word"),
    [
        ("PatientID", "Another", "mixes patients"),
        ("FrameOfReferenceUID", "9.9", "mixes frames of reference"),
        ("PixelSpacing", [0.9, 0.9], "PixelSpacing differs"),
        ("ImageOrientationPatient", [1, 0, 0, 0, 0, -1], "ImageOrientationPatient differs"),
    ],
)
def test_mixed_series_is_refused(
    tmp_path: Path, upright: Volume, write_series: Any, tag: str, value: Any, word: str
) -> None:
    def edit(dataset: Any, k: int) -> None:
        if k > 5:
            setattr(dataset, tag, value)

    write_series(tmp_path, upright, edit=edit)
    with pytest.raises(InputError, match=word) as caught:
        read_volume(tmp_path)
    assert "Secret" not in str(caught.value)


def test_other_matrix_size_is_refused(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    def edit(dataset: Any, k: int) -> None:
        if k == 4:
            dataset.Rows, dataset.PixelData = 10, dataset.PixelData[: 10 * dataset.Columns * 2]

    write_series(tmp_path, upright, edit=edit)
    with pytest.raises(GeometryError, match="matrix size differs"):
        read_volume(tmp_path)


def test_invalid_orientation_is_refused(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    write_series(tmp_path, upright, edit=lambda d, k: setattr(d, "ImageOrientationPatient", [1, 0, 0, 1, 0, 0]))
    with pytest.raises(GeometryError, match="ImageOrientationPatient"):
        read_volume(tmp_path)


def test_truncated_pixels_are_refused(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    def edit(dataset: Any, k: int) -> None:
        if k == 2:
            dataset.PixelData = dataset.PixelData[:100]

    write_series(tmp_path, upright, edit=edit)
    with pytest.raises(InputError, match="damaged"):
        read_volume(tmp_path)


def test_missing_pixels_are_refused(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    def edit(dataset: Any, k: int) -> None:
        if k == 2:
            del dataset.PixelData

    write_series(tmp_path, upright, edit=edit)
    with pytest.raises(InputError, match="has no pixels"):
        read_volume(tmp_path)


def test_raw_values_without_intercept_are_refused(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    def edit(dataset: Any, k: int) -> None:
        del dataset.RescaleIntercept

    write_series(tmp_path, upright, edit=edit)
    with pytest.raises(InputError, match="stored with an offset") as caught:
        read_volume(tmp_path)
    assert "-1024" in caught.value.remedy


def test_two_slices_are_no_scan(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    write_series(tmp_path, upright.crop((0, 0, 0), (2, 20, 24)))
    with pytest.raises(InputError, match="only 2 slices"):
        read_volume(tmp_path)


def test_one_slice_is_no_scan(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    write_series(tmp_path, upright.crop((0, 0, 0), (1, 20, 24)))
    with pytest.raises(InputError, match="one slice position"):
        read_volume(tmp_path)


def test_multiframe_is_refused(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    write_series(tmp_path, upright.crop((0, 0, 0), (1, 20, 24)), edit=lambda d, k: setattr(d, "NumberOfFrames", 40))
    with pytest.raises(InputError, match="multi-frame"):
        read_volume(tmp_path)


@pytest.mark.parametrize("codec", ["JPEG2000", "JPEG", "RLE"])
def test_compressed_pixels_are_decoded(tmp_path: Path, upright: Volume, write_series: Any, codec: str) -> None:
    """JPEG lossless and JPEG 2000 need no further package: SimpleITK decodes what pydicom cannot."""
    if codec == "RLE":
        write_series(tmp_path, upright, edit=lambda d, k: d.compress(pydicom.uid.RLELossless))
    else:
        _write_with_itk(tmp_path, upright, codec)
    assert np.array_equal(read_volume(tmp_path).array, upright.array)


def test_undecodable_pixels_are_refused(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    def edit(dataset: Any, k: int) -> None:
        dataset.compress(pydicom.uid.RLELossless)
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.HTJ2KLossless

    write_series(tmp_path, upright, edit=edit)
    with pytest.raises(InputError, match="compressed") as caught:
        read_volume(tmp_path)
    assert "pylibjpeg" in caught.value.remedy


def _write_with_itk(folder: Path, volume: Volume, codec: str) -> None:
    for k in range(volume.shape[0]):
        image = sitk.GetImageFromArray((volume.array[k : k + 1] + 1024).astype(np.uint16))
        image.SetSpacing(volume.spacing_mm[::-1])
        image.SetOrigin(tuple(volume.affine[:3, 3] + k * volume.affine[:3, 0]))
        header = {
            "0008|0060": "CT", "0008|0016": "1.2.840.10008.5.1.4.1.1.2", "0020|000e": "1.2.3",
            "0020|0037": "1\\0\\0\\0\\1\\0", "0028|0030": "0.8\\0.7", "0010|0020": "x",
            "0020|0032": "\\".join(f"{v:.6f}" for v in image.GetOrigin()), "0020|0052": "1.2.9",
        }  # fmt: skip
        for key, value in header.items():
            image.SetMetaData(key, value)
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(folder / f"{k}.dcm"))
        writer.UseCompressionOn()
        writer.SetCompressor(codec)
        writer.Execute(image)
        dataset = pydicom.dcmread(folder / f"{k}.dcm")
        assert dataset.file_meta.TransferSyntaxUID.is_compressed
        dataset.RescaleIntercept = "-1024"
        dataset.save_as(folder / f"{k}.dcm")


def test_sharp_kernel_and_contrast_are_noted(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    def edit(dataset: Any, k: int) -> None:
        dataset.ConvolutionKernel, dataset.ContrastBolusAgent = "B70f", "APPLIED"

    write_series(tmp_path, upright, edit=edit)
    notes = " ".join(read_scan(tmp_path).notes)
    assert "B70f is sharp" in notes
    assert "contrast" in notes


@pytest.mark.parametrize(("kernel", "sharp"), [("B30f", False), ("STANDARD", False), ("LUNG", True), ("Br64d", True)])
def test_kernels(tmp_path: Path, upright: Volume, write_series: Any, kernel: str, sharp: bool) -> None:
    write_series(tmp_path, upright, edit=lambda d, k: setattr(d, "ConvolutionKernel", kernel))
    assert any("sharp" in note for note in read_scan(tmp_path).notes) == sharp


def test_source_tells_no_patient(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    write_series(tmp_path, upright)
    scan = read_scan(tmp_path)
    text = json.dumps([scan.source, scan.notes])
    assert "Secret" not in text
    assert "1.2.826" not in text
    assert scan.source["slices"] == 12


def test_real_series(shared_data: Path) -> None:
    scan = reader.read(shared_data / "lung_pet_ct_dx" / "A0002_B40f_dicom")
    assert scan.volume.shape == (30, 512, 512)
    assert np.allclose(scan.volume.spacing_mm, (8, 0.646484375, 0.646484375))
    assert scan.source["kernel"] == "B40f"
    assert scan.source["grid"] == "original"
    assert [frame.number for frame in scan.frames] == [None] * 30
    heights = [float(pydicom.dcmread(f.path, stop_before_pixels=True).ImagePositionPatient[2]) for f in scan.frames]
    assert np.allclose(heights, scan.volume.affine[2, 3] + 8 * np.arange(30))
    first = pydicom.dcmread(scan.frames[0].path)
    assert np.array_equal(scan.volume.array[0], first.pixel_array.astype(np.float32) - 1024)


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
