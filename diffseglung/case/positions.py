"""The lung positions of a scan on the model grid at which tissue is described and labelled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STRIDE = 2
"""Default distance of positions, in voxels of the model grid."""


def middle(stride: int) -> int:
    """The voxel of a cell of `stride` voxels at which it is described: its middle, rounded up for even strides."""
    return stride // 2


@dataclass(frozen=True, eq=False)
class Positions:
    """Lung positions of the feature grid: the `middle` of every cell with lung.

    index: (N, 3) cell indices (z, y, x);  shape: cells along each axis;  stride: voxels per cell.
    """

    index: NDArray[np.int64]
    shape: tuple[int, int, int]
    stride: int

    @property
    def voxel(self) -> NDArray[np.int64]:
        """(N, 3) voxel at which each cell is described."""
        return self.index * self.stride + middle(self.stride)

    def scatter(self, rows: NDArray[np.float32], fill: float = 0.0) -> NDArray[np.float32]:
        """Rows (N, C) as a volume (C, z, y, x); cells without lung are `fill`."""
        out = np.full((rows.shape[1], *self.shape), fill, np.float32)
        out[:, self.index[:, 0], self.index[:, 1], self.index[:, 2]] = rows.T
        return out


def positions(lungs: NDArray[np.bool_], stride: int = STRIDE) -> Positions:
    """Cells of `stride` voxels with at least one lung voxel.

    >>> lungs = np.zeros((4, 4, 4), bool)
    >>> lungs[3, 0, 1] = True
    >>> positions(lungs, 2).voxel
    array([[3, 1, 1]])
    """
    pad = [(0, -n % stride) for n in lungs.shape]
    z, y, x = (n // stride for n in np.pad(lungs, pad).shape)
    cells = np.pad(lungs, pad).reshape(z, stride, y, stride, x, stride).any(axis=(1, 3, 5))
    return Positions(np.argwhere(cells), (z, y, x), stride)
