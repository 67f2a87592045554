"""Real scans as backgrounds of synthetic lesions, and as examples of disease that the physics rule is certain of.

The rule sees the original scan, the network a degraded one (noise, slices, kernel, breath), so that the network learns
to answer as on a good scan (learning with privileged information, Vapnik & Vashist 2009).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from diffseglung.labels import CONSOLIDATION, EMPHYSEMA, HEALTHY
from diffseglung.phantom.backgrounds import SPACING_MM, Background, real_background
from diffseglung.phantom.canvas import UNKNOWN
from diffseglung.pipeline import describe, prepare
from diffseglung.platform.config import SegmentConfig
from diffseglung.platform.runtime import Runtime
from diffseglung.tissue.methods import physics
from diffseglung.volume import Volume

LESION_ML = 5.0
"""Smaller islands stay healthy: the rule finds false ones at the hilum and diaphragm of normal lungs."""
CERTAIN = 0.6
"""Minimum posterior of a certain lesion."""
TAUGHT = (EMPHYSEMA.id, CONSOLIDATION.id)
"""Classes taken from the rule; it mistakes dependent density for GGO and knows few textures of fibrosis."""


def background_of(ct: Volume, lungs: Volume) -> Background:
    """A scan and its lungs, non-zero inside, as a background."""
    config = SegmentConfig(spacing_mm=SPACING_MM)
    prepared = prepare(ct, lungs, config)
    rows = describe(prepared, None, Runtime(device=torch.device("cpu")), config)
    posterior, best = physics(rows, config).max(1, keepdim=True)
    classes, certain = (rows.where.scatter(v.numpy().astype(np.float32))[0] for v in (best + 1, posterior >= CERTAIN))
    cell_ml = (rows.where.stride * SPACING_MM) ** 3 / 1000
    lesions = np.zeros(classes.shape, np.uint8)
    for lesion in np.unique(classes[classes > HEALTHY.id]):
        labels, count = ndimage.label(classes == lesion)
        large = np.bincount(labels.ravel(), minlength=count + 1) * cell_ml > LESION_ML
        large[0] = False
        lesions[large[labels]] = UNKNOWN
        if lesion in TAUGHT:
            lesions[large[labels] & (certain > 0)] = lesion
    return real_background(prepared, _on_voxels(lesions, rows.where.stride, prepared.lungs.shape))


def _on_voxels(cells: NDArray[np.uint8], stride: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    for axis in range(3):
        cells = np.repeat(cells, stride, axis)
    return cells[tuple(slice(0, n) for n in shape)]
