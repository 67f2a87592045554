"""A small chest on a tilted grid, with a known amount of everything."""

from __future__ import annotations

import numpy as np
import pytest

from diffseglung.segmentation import Segmentation
from diffseglung.volume import Volume


@pytest.fixture
def chest(oblique_affine: np.ndarray) -> Segmentation:
    """40 x 36 x 48 voxels of 2.5 x 0.8 x 0.7 mm: two boxes of lung, each with one block of every lesion."""
    hu = np.full((40, 36, 48), 30.0, np.float32)
    lungs = np.zeros(hu.shape, np.uint8)
    lungs[5:35, 6:30, 4:20], lungs[5:35, 6:30, 28:44] = 1, 2
    labels = (lungs > 0).astype(np.uint8)
    for label, level in ((2, -960), (3, -600), (4, -500), (5, -20)):
        labels[6 * label - 6 : 6 * label, 8:14, 6:10] = label
        labels[6 * label - 6 : 6 * label, 8:14, 30:32] = label
        hu[labels == label] = level
    hu[labels == 1] = -860
    ct = Volume(hu, oblique_affine)
    posterior = np.zeros((*hu.shape, 5), np.float16)
    for column in range(5):
        posterior[..., column][labels == column + 1] = 0.8
        posterior[..., (column + 1) % 5][labels == column + 1] = 0.2
    run = {
        "input": "chest.nii.gz",
        "settings": {"method": "seeded"},
        "warnings": ["thick slices"],
        "seconds": {"all": 1.0},
    }
    return Segmentation(ct, ct.with_array(lungs), ct.with_array(labels), posterior, run=run)
