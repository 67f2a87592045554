"""Arrays in memory give exactly what the same grid gives as a Volume: every order of axes, flips, an oblique grid."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import diffseglung
from diffseglung.io import read_mask
from diffseglung.io.nifti import write_nifti
from diffseglung.pipeline import segment
from diffseglung.platform.config import SegmentConfig
from diffseglung.platform.errors import ConfigError, GeometryError, InputError
from diffseglung.transforms import LungPathology, LungPathologyd, segment_array
from diffseglung.volume import Reorientation, Volume
from tests.toy_models import small_phantom

FAST = SegmentConfig(fast=True)
TURNS = [
    Reorientation((0, 1, 2), (False, False, False)),
    Reorientation((0, 1, 2), (True, False, True)),
    Reorientation((2, 0, 1), (False, True, False)),
    Reorientation((1, 2, 0), (True, True, True)),
]
"""Orders and directions of the axes in memory."""


def ras_of(volume: Volume) -> np.ndarray:
    """The affine from voxel (x, y, z) to RAS, by probing four voxels: nothing of the code under test."""
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])  # (x, y, z)
    points = np.array([volume.affine @ [z, y, x, 1] for x, y, z in corners])[:, :3] * [-1, -1, 1]
    affine = np.eye(4)
    affine[:3, 3] = points[0]
    affine[:3, :3] = (points[1:] - points[0]).T
    return affine


def channel_first(volume: Volume) -> np.ndarray:
    """(1, X, Y, Z)."""
    return np.ascontiguousarray(np.moveaxis(volume.array, (0, 1, 2), (2, 1, 0)))[None]


@pytest.fixture(scope="module")
def oblique_chest() -> tuple[Volume, Volume]:
    """A few centimetres of a small phantom with lesions on a tilted, anisotropic grid, and its lungs."""
    whole = small_phantom(3)
    tilt = np.deg2rad(9)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]
    z, y, x = whole.ct.shape
    low, high = (2 * z // 5, 0, 0), (3 * z // 5, y, x)
    ct, lungs = (volume.crop(low, high) for volume in (whole.ct, whole.lungs))
    hu = np.maximum(ct.array, -1024).astype(np.float32)
    return Volume(hu, turn @ ct.affine), Volume(np.ascontiguousarray(lungs.array), turn @ lungs.affine)


@pytest.fixture(scope="module", params=TURNS, ids=["as is", "flipped", "zyx turned", "turned and flipped"])
def case(request: Any, oblique_chest: tuple[Volume, Volume]) -> tuple[Volume, Volume, np.ndarray]:
    """CT and lungs with their axes turned in memory, and the label map of the plain call with the Volume."""
    ct, lungs = (
        Volume(np.ascontiguousarray(turned.array), turned.affine)
        for turned in (request.param.apply(volume) for volume in oblique_chest)
    )
    result = segment(ct, lungs, config=FAST)
    assert len(np.unique(result.label_map.array)) > 2
    return ct, lungs, result.label_map.array


def test_a_plain_array_gives_what_its_volume_gives(case: Any) -> None:
    ct, lungs, wanted = case
    labels = segment_array(ct.array, affine=ct.affine, lung_mask=lungs.array, config=FAST)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, wanted)


def test_channel_first_ras_images_give_what_their_volume_gives(case: Any) -> None:
    ct, lungs, wanted = case
    transform, image, mask = LungPathology(config=FAST), channel_first(ct), channel_first(lungs)
    plain = transform(image, affine=ras_of(ct), lung_mask=mask)
    assert isinstance(plain, np.ndarray)
    assert (plain.dtype, plain.shape) == (np.uint8, image.shape)
    np.testing.assert_array_equal(plain[0].transpose(2, 1, 0), wanted)


@pytest.mark.filterwarnings("ignore:NvImgCodec:UserWarning")
def test_monai_loads_transforms_and_saves_the_same_label_map(case: Any, tmp_path: Path) -> None:
    transforms = pytest.importorskip("monai.transforms")
    ct, lungs, wanted = case
    write_nifti(tmp_path / "ct.nii.gz", ct)
    write_nifti(tmp_path / "lungs.nii.gz", lungs)
    keys = ["image", "lungs"]
    compose = transforms.Compose([
        transforms.LoadImaged(keys),
        transforms.EnsureChannelFirstd(keys),
        LungPathologyd("image", "label", lung_mask_key="lungs", config=FAST),
    ])  # fmt: skip
    found = compose({"image": tmp_path / "ct.nii.gz", "lungs": tmp_path / "lungs.nii.gz", "age": 61})
    image, label = found["image"], found["label"]
    assert type(label) is type(image)
    assert (label.dtype, found["age"]) == (torch.uint8, 61)
    torch.testing.assert_close(label.affine, image.affine, rtol=0, atol=0)
    np.testing.assert_array_equal(label.numpy()[0].transpose(2, 1, 0), wanted)
    saver = transforms.SaveImage(tmp_path / "saved", output_postfix="", separate_folder=False, print_log=False)
    saver(label)
    (saved,) = (tmp_path / "saved").iterdir()
    back = read_mask(saved)
    assert back.same_grid(ct)
    np.testing.assert_array_equal(back.array, wanted)


def test_a_metatensor_in_lps_is_understood(oblique_chest: tuple[Volume, Volume]) -> None:
    data = pytest.importorskip("monai.data")
    ct, lungs = oblique_chest
    lps = np.diag([-1.0, -1, 1, 1]) @ ras_of(ct)
    image = data.MetaTensor(torch.from_numpy(channel_first(ct)), affine=torch.from_numpy(lps), meta={"space": "LPS"})
    label = LungPathology(config=FAST)(image, lung_mask=channel_first(lungs))
    wanted = segment_array(ct.array, affine=ct.affine, lung_mask=lungs.array, config=FAST)
    np.testing.assert_array_equal(label.numpy()[0].transpose(2, 1, 0), wanted)


def test_a_tensor_gives_a_tensor(oblique_chest: tuple[Volume, Volume]) -> None:
    ct, lungs = oblique_chest
    image, mask = torch.from_numpy(channel_first(ct)), torch.from_numpy(channel_first(lungs))
    label = LungPathology(config=FAST)(image, affine=torch.from_numpy(ras_of(ct)), lung_mask=mask)
    assert (type(label), label.dtype, label.shape) == (torch.Tensor, torch.uint8, image.shape)


def test_a_spacing_means_axes_to_the_head_the_back_and_the_left(oblique_chest: tuple[Volume, Volume]) -> None:
    ct, lungs = oblique_chest
    straight = np.zeros((4, 4))
    straight[2, 0], straight[1, 1], straight[0, 2], straight[3, 3] = *ct.spacing_mm, 1
    by_spacing = segment_array(ct.array, spacing_mm=ct.spacing_mm, lung_mask=lungs.array, config=FAST)
    by_affine = segment_array(ct.array, affine=straight, lung_mask=lungs.array, config=FAST)
    np.testing.assert_array_equal(by_spacing, by_affine)


def test_an_array_takes_its_affine_from_its_meta_dict(oblique_chest: tuple[Volume, Volume]) -> None:
    ct, lungs = oblique_chest
    data = {"ct": channel_first(ct), "ct_meta_dict": {"affine": ras_of(ct)}, "lungs": channel_first(lungs)}
    found = LungPathologyd("ct", "tissue", lung_mask_key="lungs", config=FAST)(data)
    wanted = segment_array(ct.array, affine=ct.affine, lung_mask=lungs.array, config=FAST)
    np.testing.assert_array_equal(found["tissue"][0].transpose(2, 1, 0), wanted)
    np.testing.assert_array_equal(found["tissue_meta_dict"]["affine"], ras_of(ct))
    assert "tissue" not in data


def test_a_used_transform_is_pickled_small_and_works_again(oblique_chest: tuple[Volume, Volume]) -> None:
    ct, lungs = oblique_chest
    transform = LungPathology(config=FAST)
    words = {"affine": ras_of(ct), "lung_mask": channel_first(lungs)}
    first = transform(channel_first(ct), **words)
    packed = pickle.dumps(transform)
    assert len(packed) < 5000
    np.testing.assert_array_equal(pickle.loads(packed)(channel_first(ct), **words), first)


def test_wrong_input_is_named(oblique_chest: tuple[Volume, Volume]) -> None:
    ct, _ = oblique_chest
    image, ras = channel_first(ct), ras_of(ct)
    with pytest.raises(ConfigError, match="geometry"):
        segment_array(ct.array)
    with pytest.raises(ConfigError, match="geometry"):
        segment_array(ct.array, affine=ct.affine, spacing_mm=(1, 1, 1))
    with pytest.raises(ConfigError, match="spacing_mm"):
        segment_array(ct.array, spacing_mm=(1, 0, 1))
    with pytest.raises(GeometryError, match="axes"):
        segment_array(ct.array[0], affine=ct.affine)
    with pytest.raises(InputError, match="HU"):
        segment_array(ct.array > 0, affine=ct.affine)
    with pytest.raises(GeometryError, match="fit"):
        segment_array(ct.array, affine=ct.affine, lung_mask=ct.array[1:])
    transform = LungPathology()
    with pytest.raises(InputError, match="no affine"):
        transform(image)
    with pytest.raises(InputError, match=r"not \(1, X, Y, Z\)"):
        transform(image[0], affine=ras)
    with pytest.raises(InputError, match=r"not \(4, 4\)"):
        transform(image, affine=np.eye(3))
    with pytest.raises(InputError, match="image"):
        transform((image + 1024) / 3000, affine=ras)  # scaled to 0..1, as networks like it
    with pytest.raises(InputError, match="'image'"):
        LungPathologyd()({"ct": image})
    with pytest.raises(ConfigError, match="label keys"):
        LungPathologyd(("a", "b"), "label")
    assert LungPathologyd(allow_missing_keys=True)({"ct": 1}) == {"ct": 1}


def test_the_names_are_public_and_monai_stays_out() -> None:
    assert diffseglung.LungPathology is LungPathology
    assert diffseglung.LungPathologyd is LungPathologyd
    assert diffseglung.segment_array is segment_array
    code = "import sys, diffseglung.transforms; print('monai' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
