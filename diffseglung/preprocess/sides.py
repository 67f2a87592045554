"""Right and left lung: told apart by place in the patient (right = smaller LPS x), cut where they touch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

RIGHT, LEFT = 1, 2


def split_sides(lungs: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> NDArray[np.uint8]:
    """1 right, 2 left on canonical axes (Z, Y, X right to left). lungs: binary mask of one or two lungs."""
    labels, count = ndimage.label(lungs)
    if not count:
        return np.zeros(lungs.shape, np.uint8)
    sizes = np.bincount(labels.ravel())[1:]
    big = [i + 1 for i in np.argsort(-sizes)[:2]]
    centres = [c[2] for c in ndimage.center_of_mass(lungs, labels, big)]
    middle = (
        float(np.mean(centres)) if len(big) == 2 and sizes[big[1] - 1] > 0.1 * sizes[big[0] - 1] else lungs.shape[2] / 2
    )
    every = ndimage.center_of_mass(lungs, labels, range(1, count + 1))
    table = np.zeros(count + 1, np.uint8)
    table[1:] = [RIGHT if c[2] < middle else LEFT for c in every]
    return table[labels]
