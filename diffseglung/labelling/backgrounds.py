"""Real scans as backgrounds of synthetic lesions: what the physics rule takes for disease is not called healthy."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from diffseglung.config import SegmentConfig
from diffseglung.labelling.methods import Rows, physics
from diffseglung.phantom.backgrounds import SPACING_MM, Background, real_background
from diffseglung.preprocess.scene import make_scene
from diffseglung.runtime import Runtime
from diffseglung.volume import Volume

LESION_ML = 5.0
"""Smaller islands stay healthy: the rule paints some at the hilum and diaphragm of normal lungs, and a network that is
to leave them out must see them as they are."""


def background_of(ct: Volume, lungs: Volume) -> Background:
    """A scan and its lungs, non-zero inside, as a background."""
    scene = make_scene(ct, lungs, SPACING_MM)
    rows = Rows(scene, None, Runtime(device=torch.device("cpu")))
    best = physics(rows, SegmentConfig()).argmax(1, keepdim=True).numpy().astype(np.float32)
    classes = rows.where.scatter(best + 1)[0]
    cell_ml = (rows.where.stride * SPACING_MM) ** 3 / 1000
    doubtful = np.zeros(classes.shape, bool)
    for lesion in np.unique(classes[classes > 1]):
        labels, count = ndimage.label(classes == lesion)
        large = np.bincount(labels.ravel(), minlength=count + 1) * cell_ml > LESION_ML
        large[0] = False
        doubtful |= large[labels]
    return real_background(scene, _on_voxels(doubtful, rows.where.stride, scene.lungs.shape))


def _on_voxels(cells: NDArray[np.bool_], stride: int, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    for axis in range(3):
        cells = np.repeat(cells, stride, axis)
    return cells[tuple(slice(0, n) for n in shape)]
