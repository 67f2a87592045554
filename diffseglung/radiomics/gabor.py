"""Gabor energies of planes: how much of each frequency and orientation the lung's texture holds.

Kernel (15 x 15, sigma 3 voxels): g(x, y) exp(2 pi i f (x cos theta + y sin theta)) with g the normalised Gaussian, as
scikit-image's `gabor_kernel`, minus the multiple of g that makes it sum to zero: its energy then says nothing about
density, only about texture. Energy = mean over the lung pixels of the squared magnitude of the response; intensities
are in units of 700 HU (half the published window). Kernels are separable, so a filter is two band matrices.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from diffseglung.config import RadiomicsConfig


def gabor_names(config: RadiomicsConfig) -> tuple[str, ...]:
    """Names of the energies: frequency in cycles per voxel, orientation in degrees, and their mean."""
    turns = [180 * k // config.orientations for k in range(config.orientations)]
    return (*(f"gabor_{f:.2f}_{turn:03d}" for f in config.frequencies for turn in turns), "gabor_mean")


def angles(config: RadiomicsConfig) -> list[float]:
    """Orientations in radians: 0 is along the plane's columns (the second axis)."""
    return [np.pi * k / config.orientations for k in range(config.orientations)]


def kernel(frequency: float, theta: float, config: RadiomicsConfig) -> NDArray[np.complex128]:
    """The plain Gabor kernel (size, size), before its response to a constant is taken out."""
    radius = config.kernel // 2
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    envelope = np.exp(-0.5 * (x**2 + y**2) / config.sigma**2) / (2 * np.pi * config.sigma**2)
    return np.asarray(envelope * np.exp(2j * np.pi * frequency * (x * np.cos(theta) + y * np.sin(theta))))


def zero_mean_kernel(frequency: float, theta: float, config: RadiomicsConfig) -> NDArray[np.complex128]:
    """The kernel minus the share of its envelope that makes it sum to zero."""
    plain, envelope = kernel(frequency, theta, config), kernel(0.0, 0.0, config)
    return plain - envelope * (plain.sum() / envelope.sum())


def gabor_plane(plane: NDArray[Any], lung: NDArray[np.bool_], config: RadiomicsConfig) -> NDArray[np.float64]:
    """Reference: the energies of one plane (H, W), HU minus the lung mean and 0 off the lung; NaN without lung."""
    if not lung.any():
        return np.full(len(gabor_names(config)), np.nan)
    image, energies = plane / unit_hu(config), []
    for frequency in config.frequencies:
        for theta in angles(config):
            taps = zero_mean_kernel(frequency, theta, config)
            real = ndimage.convolve(image, taps.real, mode="constant")
            imaginary = ndimage.convolve(image, taps.imag, mode="constant")
            energies.append((real**2 + imaginary**2)[lung].mean())
    return np.array([*energies, np.mean(energies)])


def unit_hu(config: RadiomicsConfig) -> float:
    """HU of one unit of intensity: half the window, as the network sees it."""
    return (config.high_hu - config.low_hu) / 2


@lru_cache(maxsize=256)
def _band(length: int, frequency: float, sigma: float, radius: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Matrices (length, length) that filter a line with the real and the imaginary part of a 1D Gabor kernel."""
    apart = np.arange(length)[:, None] - np.arange(length)[None, :]
    envelope = np.exp(-0.5 * (apart / sigma) ** 2) / (np.sqrt(2 * np.pi) * sigma) * (np.abs(apart) <= radius)
    phase = 2 * np.pi * frequency * apart
    return (envelope * np.cos(phase)).astype(np.float32), (envelope * np.sin(phase)).astype(np.float32)


def energy_maps(planes: Tensor, config: RadiomicsConfig) -> Tensor:
    """Squared magnitude of every filter at every pixel: planes (N, H, W) in HU, centred -> (F, N, H, W)."""
    image, (height, width) = planes / unit_hu(config), planes.shape[1:]

    def along(length: int, frequency: float) -> tuple[Tensor, Tensor]:
        cosine, sine = _band(length, frequency, config.sigma, config.kernel // 2)
        return torch.from_numpy(cosine).to(image), torch.from_numpy(sine).to(image)

    smooth = along(height, 0.0)[0] @ (image @ along(width, 0.0)[0])  # (N, H, W); cosine matrices are symmetric
    maps: dict[tuple[int, int], Tensor] = {}
    for row, frequency in enumerate(config.frequencies):
        for turn, theta in enumerate(angles(config)):
            if turn > config.orientations / 2:
                continue  # filled in by its mirror image, 180 degrees minus theta
            taps, envelope = kernel(frequency, theta, config), kernel(0.0, 0.0, config)
            level = smooth * float((taps.sum() / envelope.sum()).real)
            (cos_x, sin_x), (cos_y, sin_y) = (
                along(width, frequency * np.cos(theta)),
                along(height, frequency * np.sin(theta)),
            )
            even, odd = image @ cos_x, image @ sin_x.T  # responses along the rows
            a, b, c, d = cos_y @ even, sin_y @ odd, cos_y @ odd, sin_y @ even
            maps[row, turn] = (a - b - level).square() + (c + d).square()
            if 0 < turn < config.orientations / 2:
                maps[row, config.orientations - turn] = (a + b - level).square() + (d - c).square()
    return torch.stack([maps[key] for key in sorted(maps)])
