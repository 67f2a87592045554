"""A folder of small scans: one chest, its noise drawn anew for each, so that making many is quick."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from diffseglung.io.nifti import write_nifti
from diffseglung.phantom.procedural import make_phantom
from diffseglung.phantom.scanner import Scanner
from diffseglung.platform.config import PhantomConfig
from diffseglung.volume import Volume


@cache
def small_chest() -> Volume:
    """About 40 x 50 x 60 voxels: everything runs, in a second."""
    scanner = Scanner(in_plane_mm=2.5, slice_mm=3.0, thickness_mm=3.0, noise_hu=20.0)
    return make_phantom(PhantomConfig(seed=5, size="small"), scanner=scanner).ct


def write_scans(folder: Path, count: int) -> list[Path]:
    """scan_000.nii.gz and so on."""
    chest, paths = small_chest(), []
    for i in range(count):
        noise = np.random.default_rng(i).normal(0, 5, chest.shape)
        paths.append(folder / f"scan_{i:03d}.nii.gz")
        write_nifti(paths[-1], chest.with_array(np.asarray(np.rint(chest.array + noise), np.int16)))
    return paths


def spoil(path: Path) -> None:
    """Cut a file in half."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
