"""Qualitative samples: a picture and volumes in HU, the same noise at every iteration."""

from __future__ import annotations

import numpy as np
import torch

from diffseglung.io.nifti import read_nifti
from diffseglung.method.diffusion import DiffusionModel
from diffseglung.method.unet import UNet
from diffseglung.platform.config import UNETS, DiffusionConfig
from diffseglung.training.samples import draw_samples


def test_samples_are_a_picture_and_volumes_in_hu(patches, tmp_path):
    torch.manual_seed(0)
    model = DiffusionModel.of(UNet(UNETS["tiny"]), DiffusionConfig(steps=50))
    files = draw_samples(model, patches, tmp_path / "one", iteration=5, seed=0)
    assert [path.name for path in files] == ["0000005.png", "0000005_0.nii.gz", "0000005_1.nii.gz"]
    assert files[0].read_bytes()[:4] == b"\x89PNG"
    drawn = read_nifti(files[1]).array
    assert drawn.shape == patches.shape
    assert drawn.min() >= -1000
    assert drawn.max() <= 400
    again = draw_samples(model, patches, tmp_path / "two", iteration=6, seed=0)
    assert np.array_equal(read_nifti(again[1]).array, drawn)
