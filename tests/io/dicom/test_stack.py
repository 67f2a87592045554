"""A stack of slices becomes the volume it was cut from; every defect is one error that names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from diffseglung.io import read_scan, read_volume
from diffseglung.io.dicom import reader
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
