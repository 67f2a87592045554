"""Cases on disk, prepared as in the pipeline, with their truth if it is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffseglung.case.prepared import PreparedScan
from diffseglung.case.resample import resample_onto
from diffseglung.io import read_mask, read_volume
from diffseglung.io.npz import read_case
from diffseglung.pipeline import prepare
from diffseglung.platform.config import SegmentConfig


def read_prepared(path: Path, spacing_mm: float) -> tuple[PreparedScan, NDArray[np.int64] | None]:
    """A prepared NPZ case or case folder; and, of a folder, the class index (Z, Y, X) on its grid (-1: none)."""
    config = SegmentConfig(spacing_mm=spacing_mm)
    if path.suffix == ".npz":
        case = read_case(path)
        return prepare(case.ct, case.lungs, config), None
    prepared = prepare(read_volume(path / "ct.nii.gz"), read_mask(path / "lungs.nii.gz"), config)
    truth = resample_onto(read_mask(path / "truth.nii.gz"), prepared.grid, order=0).array
    return prepared, truth.astype(np.int64) - 1
