"""Uniform local binary patterns of planes, 8 points at radius 1 (Ojala et al. 2002), as scikit-image computes them.

Each of the 8 points on the unit circle (diagonal ones interpolated bilinearly) gives a bit: at least as bright as the
centre. A pattern with at most two changes around the circle is uniform and coded by its number of ones (0..8); all
others are coded 9. Codes are invariant to rotation by 90 degrees and to shifts of the grey values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

BINS = 10
LBP = (*(f"lbp_{code}" for code in range(BINS - 1)), "lbp_other")
DIAGONAL = round(0.5**0.5, 5)
"""Coordinate of the diagonal points, to five decimals as in scikit-image."""
TIE_HU = 1e-2
"""Smaller differences in HU count as equal, so that rounding does not decide in flat regions."""
CIRCLE = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))
"""The neighbours (row, column) around the circle."""


def _weights(step: tuple[int, int]) -> tuple[float, float, float, float]:
    """Bilinear weights of centre, row neighbour, column neighbour and diagonal neighbour for one circle point."""
    if 0 in step:
        return (0.0, float(step[0] != 0), float(step[1] != 0), 0.0)
    d = DIAGONAL
    return (1 - d) ** 2, d * (1 - d), d * (1 - d), d * d


def codes(plane: NDArray[Any]) -> NDArray[np.int64]:
    """Reference: codes 0..9 of one plane (H, W); beyond the border the plane is 0.

    >>> int(codes(np.zeros((3, 3)))[1, 1])  # flat: all 8 points are as bright as the centre
    8
    """
    height, width = plane.shape
    padded = np.pad(plane.astype(np.float64), 1)

    def shifted(row: int, column: int) -> NDArray[np.float64]:
        return padded[1 + row : 1 + row + height, 1 + column : 1 + column + width]

    bits = []
    for row, column in CIRCLE:
        corners = (shifted(0, 0), shifted(row, 0), shifted(0, column), shifted(row, column))
        point = sum(w * c for w, c in zip(_weights((row, column)), corners, strict=True))
        bits.append(point - shifted(0, 0) >= -TIE_HU)
    circle = np.array(bits, np.int64)
    changes = (circle != np.roll(circle, 1, 0)).sum(0)
    return np.where(changes <= 2, circle.sum(0), BINS - 1)


def lbp_plane(plane: NDArray[Any], lung: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Reference: shares of the 10 codes among the lung pixels of one plane; NaN where there are none.

    plane: (H, W) HU minus the lung mean, 0 off the lung.
    """
    counts = np.bincount(codes(plane)[lung], minlength=BINS)
    return counts / counts.sum() if counts.sum() else np.full(BINS, np.nan)


def codes_batch(planes: Tensor) -> Tensor:
    """`codes` of planes (N, H, W) -> uint8 (N, H, W)."""
    height, width = planes.shape[1:]
    padded = functional.pad(planes, (1, 1, 1, 1))

    def shifted(row: int, column: int) -> Tensor:
        return padded[:, 1 + row : 1 + row + height, 1 + column : 1 + column + width] - planes

    straight = {step: shifted(*step) for step in CIRCLE if 0 in step}
    bits = []
    for row, column in CIRCLE:
        if 0 in (row, column):
            point = straight[row, column]
        else:
            _, side, _, corner = _weights((row, column))
            point = side * (straight[row, 0] + straight[0, column]) + corner * shifted(row, column)
        bits.append(point >= -TIE_HU)
    ones = torch.zeros_like(bits[0], dtype=torch.uint8)
    changes = torch.zeros_like(ones)
    for bit, before in zip(bits, [bits[-1], *bits[:-1]], strict=True):
        ones += bit
        changes += bit ^ before
    return torch.where(changes <= 2, ones, BINS - 1)
