"""Samples of a model during training: a picture and NIfTI files, drawn with DPM-Solver++."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from diffseglung.io.nifti import write_nifti
from diffseglung.method.diffusion import DiffusionModel
from diffseglung.method.distillation import to_hu
from diffseglung.method.samplers import dpm_solver, logsnr_steps
from diffseglung.method.train.data import Patches
from diffseglung.platform import atomic_files
from diffseglung.platform.runtime import patch_noise
from diffseglung.training.pictures import contact_sheet
from diffseglung.training.precompute import patch_settings
from diffseglung.volume import Volume

SAMPLES, STEPS = 4, 15


@torch.no_grad()
def draw_samples(model: DiffusionModel, patches: Patches, folder: Path, *, iteration: int, seed: int) -> list[Path]:
    """Write <iteration>.png and <iteration>_<i>.nii.gz (HU, the first two) into `folder`; returns the files.

    Lung masks come from training patches; noise and masks are the same at every iteration, for comparison.
    """
    device = next(model.network.parameters()).device
    index = np.linspace(0, len(patches) - 1, min(SAMPLES, len(patches))).astype(int)
    lung = torch.from_numpy((np.stack([patches.mask[i] for i in index]) > 0).astype(np.float32))[:, None]
    noise = torch.stack([patch_noise(tuple(lung.shape[1:]), seed, i) for i in range(len(index))])
    model.network.eval()
    steps = logsnr_steps(model.signal, min(STEPS, model.config.steps))
    clean = dpm_solver(model.denoiser(lung.to(device)), noise.to(device), model.signal, steps)
    patch, intensity = patch_settings(patches)
    hu = to_hu(clean.float().clamp(-1, 1).cpu(), intensity)[:, 0].numpy()
    folder.mkdir(parents=True, exist_ok=True)
    picture = folder / f"{iteration:07d}.png"
    written = [atomic_files.write_bytes(picture, contact_sheet(hu))]
    spacing = patch.spacing_mm or 1.0
    affine = np.diag([spacing, spacing, spacing, 1.0])[[2, 1, 0, 3]]
    for i, values in enumerate(hu[:2]):
        path = folder / f"{iteration:07d}_{i}.nii.gz"
        write_nifti(path, Volume(values.astype(np.float32), affine))
        written.append(path)
    return written
