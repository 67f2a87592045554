"""Gabor energies of planes: how much of each frequency and orientation the lung's texture holds.

Kernel (15 x 15, sigma 3 voxels): g(x, y) exp(2 pi i f (x cos theta + y sin theta)) with g the normalised Gaussian, as
scikit-image's `gabor_kernel`, minus the multiple of g that makes it sum to zero: its energy then says nothing about
density, only about texture. Energy = mean over the lung pixels of the squared magnitude of the response; intensities
are in units of 700 HU (half the published window). The fast path filters by Fourier transform.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.fft import next_fast_len
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
    return np.asarray(plain - envelope * (plain.sum() / envelope.sum()))


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


@lru_cache(maxsize=32)
def _spectra(height: int, width: int, config: RadiomicsConfig) -> NDArray[np.float32]:
    """Transfer functions (F, height, width) of the filters on a periodic plane; real, as k(-x) = conj k(x)."""
    radius, spectra = config.kernel // 2, []
    for frequency in config.frequencies:
        for theta in angles(config):
            field = np.zeros((height, width), np.complex128)
            field[: config.kernel, : config.kernel] = zero_mean_kernel(frequency, theta, config)
            spectra.append(np.fft.fft2(np.roll(field, (-radius, -radius), (0, 1))).real)
    return np.asarray(spectra, np.float32)


def energy_maps(planes: Tensor, config: RadiomicsConfig, *, padding: bool = True) -> Iterator[Tensor]:
    """Squared magnitude of each filter's response at every pixel, one filter after the other.

    planes: (N, H, W) in HU, centred; beyond the border they are 0.  Yields tensors (N, H, W).
    padding: False is quicker, and leaves the outermost half kernel of the planes without meaning.
    """
    height, width = planes.shape[1:]
    more = config.kernel // 2 if padding else 0
    rows, columns = (next_fast_len(max(length + more, config.kernel)) for length in (height, width))
    spectrum = torch.fft.fft2(planes / unit_hu(config), s=(rows, columns))
    for transfer in torch.from_numpy(_spectra(rows, columns, config)).to(planes):
        response = torch.fft.ifft2(spectrum * transfer)[:, :height, :width]
        yield response.real.square() + response.imag.square()
