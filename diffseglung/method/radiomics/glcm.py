"""Grey level co-occurrence in three dimensions (IBSI 3.6; Haralick 1973).

Definition: 64 levels of 21.875 HU over -1000..400; the 13 directions to the neighbours at Chebyshev distance 1,
both ways (symmetric); pairs with both voxels in the lung; the counts of all directions merged into one matrix before
normalisation (IBSI aggregation "3D, merged"). p_ij is the share of pairs (i, j); mu and var are those of its margin.

contrast        sum p_ij (i - j)^2
dissimilarity   sum p_ij |i - j|                      (IBSI: difference average)
homogeneity     sum p_ij / (1 + (i - j)^2)            (IBSI: inverse difference moment)
energy          sqrt(ASM)                             (as scikit-image)
correlation     sum p_ij (i - mu) (j - mu) / var      (1 where var = 0, as scikit-image)
asm             sum p_ij^2                            (IBSI: angular second moment)
A patch without a pair of lung voxels is all NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from diffseglung.method.radiomics.firstorder import quantise, quantise_batch, tally
from diffseglung.platform.config import RadiomicsConfig

GLCM = ("glcm_contrast", "glcm_dissimilarity", "glcm_homogeneity", "glcm_energy", "glcm_correlation", "glcm_asm")
Offset = tuple[int, int, int]
DIRECTIONS: tuple[Offset, ...] = tuple(
    (z, y, x) for z in (0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1) if (z, y, x) > (0, 0, 0)
)
"""One offset (Z, Y, X) of each of the 13 pairs of opposite neighbours."""


def pair_slices(offset: Offset) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Slices of the first and of the second voxel of all pairs `offset` apart."""
    first = tuple(slice(max(0, -d), -d if d > 0 else None) for d in offset)
    second = tuple(slice(max(0, d), d if d < 0 else None) for d in offset)
    return first, second


def count_pairs(
    level: NDArray[Any], lung: NDArray[np.bool_], levels: int, offsets: tuple[Offset, ...] = DIRECTIONS
) -> NDArray[np.float64]:
    """Reference: symmetric counts (levels, levels) of lung voxel pairs, merged over `offsets`."""
    counts = np.zeros((levels, levels))
    for offset in offsets:
        first, second = pair_slices(offset)
        both = lung[first] & lung[second]
        np.add.at(counts, (level[first][both], level[second][both]), 1)
    return counts + counts.T


def measure(counts: NDArray[Any]) -> NDArray[np.float64]:
    """The 6 measures of one symmetric count matrix, in the order of GLCM.

    >>> float(measure(np.array([[0.0, 2.0], [2.0, 0.0]]))[GLCM.index("glcm_contrast")])
    1.0
    """
    if counts.sum() == 0:
        return np.full(len(GLCM), np.nan)
    p = counts / counts.sum()
    i, j = np.indices(p.shape)
    mu = (p * i).sum()
    variance = (p * (i - mu) ** 2).sum()
    correlation = (p * (i - mu) * (j - mu)).sum() / variance if variance > 0 else 1.0
    asm = (p**2).sum()
    contrast, dissimilarity = (p * (i - j) ** 2).sum(), (p * np.abs(i - j)).sum()
    return np.array([contrast, dissimilarity, (p / (1 + (i - j) ** 2)).sum(), asm**0.5, correlation, asm])


def glcm_patch(hu: NDArray[Any], lung: NDArray[np.bool_], config: RadiomicsConfig) -> NDArray[np.float64]:
    """Reference: the 6 measures of one patch (Z, Y, X)."""
    return measure(count_pairs(quantise(hu, config.levels, config), lung, config.levels))


def count_pairs_batch(level: Tensor, lung: Tensor, levels: int, offsets: tuple[Offset, ...] = DIRECTIONS) -> Tensor:
    """`count_pairs` of B patches: level (B, Z, Y, X) integers, lung bool -> (B, levels, levels) float32.

    Voxels outside the lung and a margin after each axis get an extra level, whose row and column are dropped. With
    that margin a neighbour is always the same distance away in memory.
    """
    side, patches = levels + 1, len(level)
    off = functional.pad(torch.where(lung, level.int(), levels), (0, 1, 0, 1, 0, 1), value=levels)
    _, _, height, width = off.shape
    base = torch.arange(patches, dtype=off.dtype, device=off.device).view(-1, 1, 1, 1) * side**2
    row, level = (off * side + base).flatten(), off.flatten()
    pairs = torch.full((len(offsets), len(level)), side**2 - 1, dtype=off.dtype, device=off.device)
    for pair, (z, y, x) in zip(pairs, offsets, strict=True):
        apart = (z * height + y) * width + x
        torch.add(row[:-apart], level[apart:], out=pair[:-apart])
    inside = tally(pairs, patches * side**2).view(patches, side, side)[:, :levels, :levels]
    return inside + inside.transpose(1, 2)


def measure_batch(counts: Tensor) -> Tensor:
    """`measure` of B symmetric count matrices (B, L, L) -> (B, 6)."""
    levels = counts.shape[-1]
    p = counts / counts.sum((1, 2), keepdim=True)  # 0 / 0 is the NaN of an empty patch
    i = torch.arange(levels, dtype=p.dtype, device=p.device)
    apart = i[:, None] - i[None, :]
    weights = torch.stack([apart.square(), apart.abs(), 1 / (1 + apart.square())], -1).view(-1, 3)
    contrast, dissimilarity, homogeneity = (p.flatten(1) @ weights).unbind(1)
    margin = p.sum(2)  # (B, L)
    centred = i - (margin * i).sum(1, keepdim=True)
    variance = (margin * centred.square()).sum(1)
    covariance = ((p @ centred[..., None])[..., 0] * centred).sum(1)
    correlation = torch.where(variance > 1e-9, covariance / variance, torch.where(variance.isnan(), torch.nan, 1.0))
    asm = p.square().sum((1, 2))
    return torch.stack([contrast, dissimilarity, homogeneity, asm.sqrt(), correlation, asm], 1)


def glcm_batch(hu: Tensor, lung: Tensor, config: RadiomicsConfig) -> Tensor:
    """The 6 measures of B patches: hu (B, Z, Y, X), lung bool -> (B, 6)."""
    return measure_batch(count_pairs_batch(quantise_batch(hu, config.levels, config), lung, config.levels))
