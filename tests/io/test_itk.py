"""NRRD and MetaImage: the same grid as ITK's own, damaged files named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from diffseglung.io import read_mask, read_scan, read_volume
from diffseglung.platform.errors import InputError
from diffseglung.volume import Volume


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
    for name, word in (("flat", "2D"), ("thin", "2D"), ("colour", "3 numbers a voxel"), ("time", "several volumes")):
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
