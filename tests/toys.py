"""Toy cases and patches for the tests of training: small enough to train on in a second."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from diffseglung.case.prepared import PreparedScan, prepare_scan
from diffseglung.io.npz import Case, write_case
from diffseglung.method.train.data import Patches, open_patches
from diffseglung.platform.config import DistillConfig, PatchConfig
from diffseglung.training.precompute import PatchJob, precompute
from diffseglung.volume import Volume

not_utf8 = pytest.mark.skipif(sys.platform != "linux", reason="file names are Unicode there")
SHAPE = (8, 16, 16)
JOB = PatchJob(
    patch=PatchConfig(shape=SHAPE, patches_per_patient=3, spacing_mm=0.0),
    distill=DistillConfig(grid_stride=4, window=8),
)


def toy_volumes(seed: int, shape: tuple[int, int, int] = (14, 24, 24)) -> tuple[np.ndarray, np.ndarray]:
    """HU and lung mask of an ellipsoid of noisy lung."""
    axes = [np.linspace(-1, 1, n) for n in shape]
    inside = sum(a**2 for a in np.meshgrid(*axes, indexing="ij")) < 0.9
    noise = np.random.default_rng(seed).normal(0, 80, shape)
    return np.where(inside, -820 + noise, 30.0).astype(np.float32), inside.astype(np.uint8)


def toy_cases(folder: Path, count: int = 2) -> list[Path]:
    """NPZ cases named toy__<i>.npz."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"toy__{i}.npz" for i in range(count)]
    for seed, path in enumerate(paths):
        hu, inside = toy_volumes(seed)
        volume = Volume(hu, np.diag([1.5, 1.5, 1.5, 1.0])[[2, 1, 0, 3]])
        write_case(path, Case(path.stem, volume, volume.with_array(inside), {}), compress=False)
    return paths


def toy_patches(folder: Path, job: PatchJob = JOB) -> Patches:
    """Patches of two toy cases, with stored teacher."""
    return open_patches(precompute(toy_cases(folder / "npz"), folder / "patches", job))


def toy_prepared() -> PreparedScan:
    """A small chest on the model grid."""
    hu, inside = toy_volumes(0)
    ct = Volume(hu, np.diag([1.5, 1.5, 1.5, 1.0])[[2, 1, 0, 3]])
    return prepare_scan(ct, ct.with_array(inside), 1.5)
