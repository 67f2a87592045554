"""Lungs in a CT without a trained model."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from diffseglung.config import LungMaskConfig
from diffseglung.errors import InputError
from diffseglung.preprocess.sides import split_sides
from diffseglung.volume import Reorientation, Volume


def find_lungs(ct: Volume, config: LungMaskConfig | None = None) -> Volume:
    """uint8 mask on the grid of `ct` (HU, any orientation): 1 right lung, 2 left lung.

    Raises InputError when there are no lungs.
    """
    config = config or LungMaskConfig()
    turn = Reorientation.of(ct)
    upright = turn.apply(ct)
    air = upright.array < config.threshold_hu
    labels, count = ndimage.label(air)
    sizes = np.bincount(labels.ravel(), minlength=2) * ct.voxel_ml
    sizes[0] = 0
    faces = np.unique(np.concatenate([labels[:, [0, -1]].ravel(), labels[:, :, [0, -1]].ravel()]))
    sizes[faces] = 0
    keep = sizes > max(0.15 * sizes.max(), 50.0)
    if not keep.any():
        raise InputError(
            "no lungs were found in the scan", remedy="check that it is a chest CT in HU, or pass a lung mask"
        )
    lungs = ndimage.binary_closing(keep[labels], iterations=2)
    return ct.with_array(turn.undo(split_sides(lungs, upright.spacing_mm)))
