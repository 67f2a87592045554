"""A tiny model, a tiny held-out scan and tiny training patches for the tests of the generation table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from diffseglung.io.nifti import write_nifti
from diffseglung.method import checkpoint
from diffseglung.method.card import ModelCard
from diffseglung.method.unet import UNet
from diffseglung.platform.config import DiffusionConfig, PatchConfig, UNetConfig
from diffseglung.training.precompute import PatchJob, precompute
from diffseglung.volume import Volume
from studies.generation import Inputs
from tests import toys

PATCH = PatchConfig(shape=(16, 16, 16), spacing_mm=2.0, patches_per_patient=6, min_lung_fraction=0.4)


def model_file(path: Path, seed: int = 0) -> Path:
    """Random weights, of a chain of 12 steps."""
    card = ModelCard(
        unet=UNetConfig(base_channels=8, multipliers=(1, 2), stem_stride=2, heads=1),
        diffusion=DiffusionConfig(steps=12, prediction="v"),
        patch=PATCH,
    )
    torch.manual_seed(seed)
    network = UNet(card.unet)
    torch.nn.init.normal_(network.leave.weight, std=0.05)
    checkpoint.save(path, {f"network.{k}": v for k, v in network.state_dict().items()}, card)
    return path


def scan(folder: Path, name: str = "new", seed: int = 9) -> tuple[Path, Path]:
    """CT and lungs of noisy lung in an ellipsoid, 2 mm."""
    hu, lungs = toys.toy_volumes(seed, (26, 40, 40))
    volume = Volume(hu, np.diag([2.0, 2.0, 2.0, 1.0])[[2, 1, 0, 3]])
    folder.mkdir(parents=True, exist_ok=True)
    pair = folder / f"{name}.nii.gz", folder / f"{name}_lungs.nii.gz"
    write_nifti(pair[0], volume)
    write_nifti(pair[1], volume.with_array(lungs))
    return pair


def inputs(folder: Path, *, trained: bool = True) -> Inputs:
    """Two models, one scan, and training patches of two toy cases."""
    patches = None
    if trained:
        patches = precompute(toys.toy_cases(folder / "npz"), folder / "patches", PatchJob(patch=PATCH))
    models = {f"stage {i}": model_file(folder / f"stage{i}.safetensors", i) for i in (1, 2)}
    return Inputs(models, [scan(folder)], patches)
