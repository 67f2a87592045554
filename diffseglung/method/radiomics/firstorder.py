"""First-order statistics of the HU inside the lung (IBSI definitions, Zwanenburg et al. 2016, section 3.3-3.4).

With x the N lung HU, m_k = sum (x - mean)^k / N:
mean; standard deviation sqrt(m_2); skewness m_3 / m_2^1.5; excess kurtosis m_4 / m_2^2 - 3;
entropy -sum p log2 p of the histogram, in bits.
A constant patch has skewness and kurtosis 0 by convention (as in pyradiomics); an empty one is all NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffseglung.platform.config import RadiomicsConfig

FIRST_ORDER = ("hu_mean", "hu_sd", "hu_skewness", "hu_kurtosis", "hu_entropy")
FLAT_SD = 1e-2
"""A patch with a standard deviation (HU) below this is constant."""


def moments(values: NDArray[Any]) -> tuple[float, float, float, float]:
    """Mean, population variance, skewness and excess kurtosis of a set of values; NaN where it is empty."""
    if values.size == 0:
        return (float("nan"),) * 4
    centred = values.astype(np.float64) - values.mean(dtype=np.float64)
    m2, m3, m4 = (float((centred**k).mean()) for k in (2, 3, 4))
    mean = float(values.mean(dtype=np.float64))
    if m2 < FLAT_SD**2:
        return mean, m2, 0.0, 0.0
    return mean, m2, m3 / m2**1.5, m4 / m2**2 - 3.0


def entropy(counts: NDArray[Any]) -> float:
    """Shannon entropy in bits of a histogram of counts; NaN where it is empty.

    >>> entropy(np.array([5, 5, 5, 5]))
    2.0
    """
    if counts.sum() == 0:
        return float("nan")
    share = counts[counts > 0] / counts.sum()
    return float(max(0.0, -(share * np.log2(share)).sum()))


def quantise(hu: NDArray[Any], count: int, config: RadiomicsConfig) -> NDArray[np.int64]:
    """HU to `count` equal levels 0..count - 1 over [low_hu, high_hu]; the last level includes high_hu.

    >>> quantise(np.array([-1000.0, -300.0, 400.0]), 64, RadiomicsConfig())
    array([ 0, 32, 63])
    """
    scaled = (hu.astype(np.float64) - config.low_hu) * count / (config.high_hu - config.low_hu)
    return np.clip(np.floor(scaled), 0, count - 1).astype(np.int64)


def first_order_patch(hu: NDArray[Any], lung: NDArray[np.bool_], config: RadiomicsConfig) -> NDArray[np.float64]:
    """Reference: the 5 statistics of one patch (Z, Y, X), in the order of FIRST_ORDER."""
    inside = hu[lung]
    mean, variance, skewness, kurtosis = moments(inside)
    counts = np.bincount(quantise(inside, config.bins, config), minlength=config.bins)
    return np.array([mean, variance**0.5, skewness, kurtosis, entropy(counts)])


def quantise_batch(hu: Tensor, count: int, config: RadiomicsConfig) -> Tensor:
    """`quantise` for a tensor of any shape; int32."""
    scaled = (hu - config.low_hu).mul_(count).div_(config.high_hu - config.low_hu)
    return scaled.int().clamp_(0, count - 1)


def tally(values: Tensor, bins: int) -> Tensor:
    """Counts of 0..bins - 1 in int32 values of any shape: (bins,) float32, exact up to 16 million."""
    if values.device.type == "cpu":
        return torch.bincount(values.flatten(), minlength=bins).float()
    places = values.flatten().long()  # bincount would synchronise the accelerator
    return torch.zeros(bins, device=values.device).scatter_add_(0, places, torch.ones_like(places, dtype=torch.float32))


def first_order_batch(hu: Tensor, lung: Tensor, config: RadiomicsConfig) -> Tensor:
    """The 5 statistics of B patches: hu (B, Z, Y, X) float32 within the window, lung bool -> (B, 5)."""
    inside = lung.flatten(1).to(hu.dtype)  # (B, N)
    size = inside.sum(1)  # (B,); 0 / 0 is the NaN of an empty patch
    mean = (hu.flatten(1) * inside).sum(1) / size
    centred = (hu.flatten(1) - mean[:, None].nan_to_num()) * inside
    square = centred.square()
    m2, m3, m4 = square.sum(1) / size, (square * centred).sum(1) / size, square.square().sum(1) / size
    flat = m2 < FLAT_SD**2
    safe = torch.where(flat, 1.0, m2)
    skewness = torch.where(flat, 0.0, m3 / safe**1.5)
    kurtosis = torch.where(flat, 0.0, m4 / safe**2 - 3.0)
    side, patches = config.bins + 1, len(hu)  # voxels outside the lung have an extra bin
    bin_of = torch.where(lung, quantise_batch(hu, config.bins, config), config.bins).flatten(1)
    bin_of += torch.arange(patches, dtype=torch.int32, device=hu.device)[:, None] * side
    counts = tally(bin_of, patches * side).view(patches, side)[:, : config.bins]
    share = counts / size[:, None]
    bits = -torch.special.xlogy(share, share).sum(1) / np.log(2.0)
    return torch.stack([mean, m2.sqrt(), skewness, kurtosis, bits.clamp(min=0)], 1)
