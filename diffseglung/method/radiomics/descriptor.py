"""The 34 radiomic descriptors of a patch: names, definition, and the plain reference that defines every number.

5 HU statistics and 6 co-occurrence measures see the lung voxels only. 10 LBP shares and 13 Gabor energies need a
neighbourhood: there, voxels off the lung and beyond the patch count as the lung mean, so that a mask border makes no
edge, and only the results at lung voxels count. They look at the three middle planes (index n // 2: axial (Y, X),
coronal (Z, X), sagittal (Z, Y)) and are averaged over those that hold lung. HU are clipped to the window first.

A patch without lung is NaN throughout; one whose middle planes hold no lung is NaN in LBP and Gabor. A constant patch
has skewness 0, kurtosis 0, entropy 0, GLCM correlation 1 and ASM 1, all LBP in bin 8 and Gabor energies 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffseglung.method.radiomics.firstorder import FIRST_ORDER, first_order_patch
from diffseglung.method.radiomics.gabor import gabor_names, gabor_plane
from diffseglung.method.radiomics.glcm import GLCM, glcm_patch
from diffseglung.method.radiomics.lbp import LBP, lbp_plane
from diffseglung.platform.config import RadiomicsConfig

__all__ = ["DESCRIPTOR_NAMES", "RadiomicsConfig", "describe_patch", "descriptor_names"]


def descriptor_names(config: RadiomicsConfig) -> tuple[str, ...]:
    """Names of the descriptors under other settings than the published ones."""
    return (*FIRST_ORDER, *GLCM, *LBP, *gabor_names(config))


DESCRIPTOR_NAMES = descriptor_names(RadiomicsConfig())
"""The 34 names, in the order of every descriptor vector."""


def describe_patch(hu: NDArray[Any], lung: NDArray[Any], config: RadiomicsConfig | None = None) -> NDArray[np.float64]:
    """Reference: descriptors (34,) of one patch, by NumPy and SciPy alone.

    hu: (Z, Y, X) in HU.  lung: (Z, Y, X), true or positive in the lung.
    """
    config = config or RadiomicsConfig()
    inside = (np.asarray(lung) > 0) & np.isfinite(hu)
    clipped = np.clip(np.where(inside, hu, config.low_hu).astype(np.float64), config.low_hu, config.high_hu)
    first_order, glcm = first_order_patch(clipped, inside, config), glcm_patch(clipped, inside, config)
    centred = np.where(inside, clipped - first_order[0], 0.0)
    rows = []
    for axis in range(3):
        for plane, mask in _planes(centred, inside, axis, config.planes):
            rows.append((axis, mask.sum(), lbp_plane(plane, mask), gabor_plane(plane, mask, config)))
    return np.concatenate([first_order, glcm, _average(rows, 2), _average(rows, 3)])


def _planes(
    image: NDArray[Any], lung: NDArray[np.bool_], axis: int, which: str
) -> Iterator[tuple[NDArray[Any], NDArray[np.bool_]]]:
    """The middle plane across an axis, or all of them, each with its lung pixels."""
    size = image.shape[axis]
    for index in [size // 2] if which == "middle" else range(size):
        yield image.take(index, axis), np.asarray(lung.take(index, axis))


def _average(rows: list[tuple[Any, ...]], column: int) -> NDArray[np.float64]:
    """Mean over the axes that hold lung; within an axis, planes weigh as many pixels as they hold."""
    means = []
    for axis in range(3):
        of_axis = [(row[1], row[column]) for row in rows if row[0] == axis and row[1] > 0]
        if of_axis:
            means.append(np.average([value for _, value in of_axis], axis=0, weights=[n for n, _ in of_axis]))
    return np.asarray(np.mean(means, axis=0)) if means else np.full(len(rows[0][column]), np.nan)
