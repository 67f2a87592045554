"""Gabor energies against scikit-image's kernels and SciPy's convolution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d
from skimage.filters import gabor_kernel

from diffseglung.config import RadiomicsConfig
from diffseglung.radiomics.gabor import angles, energy_maps, gabor_names, kernel, unit_hu, zero_mean_kernel

from .conftest import Patch

CONFIG = RadiomicsConfig()
FILTERS = [(frequency, theta) for frequency in CONFIG.frequencies for theta in angles(CONFIG)]


def _centre(values: np.ndarray, edge: int) -> np.ndarray:
    low = (len(values) - edge) // 2
    return values[low : low + edge, low : low + edge]


@pytest.mark.parametrize(("frequency", "theta"), FILTERS)
def test_kernel_is_scikit_images(frequency: float, theta: float) -> None:
    """Same values; scikit-image chooses another extent for each orientation, so the common part is compared."""
    oracle = gabor_kernel(frequency, theta=theta, sigma_x=3, sigma_y=3, n_stds=4)
    ours = kernel(frequency, theta, CONFIG)
    assert ours.shape == (15, 15)
    edge = min(15, *oracle.shape)
    assert _centre(ours, edge) == pytest.approx(_centre(oracle[:, :], edge), abs=1e-12)


@pytest.mark.parametrize(("frequency", "theta"), FILTERS)
def test_kernel_ignores_density(frequency: float, theta: float) -> None:
    """The kernel in use sums to zero and differs from the plain one by a multiple of its envelope."""
    used, plain = zero_mean_kernel(frequency, theta, CONFIG), kernel(frequency, theta, CONFIG)
    assert abs(used.sum()) < 1e-12
    ratio = (plain - used) / kernel(0.0, 0.0, CONFIG)
    assert ratio == pytest.approx(np.full((15, 15), ratio[7, 7]), abs=1e-9)


def test_energy_is_scipys_convolution(real: Patch) -> None:
    """Every filter at every pixel, with zeros beyond the border."""
    plane = np.where(real[1][16], real[0][16] + 800.0, 0.0)
    maps = list(energy_maps(torch.from_numpy(plane).float()[None], CONFIG))
    assert len(maps) == len(FILTERS) == len(gabor_names(CONFIG)) - 1
    for energy, (frequency, theta) in zip(maps, FILTERS, strict=True):
        response = convolve2d(plane / unit_hu(CONFIG), zero_mean_kernel(frequency, theta, CONFIG), mode="same")
        assert energy[0].numpy() == pytest.approx(np.abs(response) ** 2, rel=1e-3, abs=1e-8)


@pytest.mark.parametrize("turn", range(4))
@pytest.mark.parametrize("row", range(3))
def test_a_grating_excites_its_own_filter(row: int, turn: int) -> None:
    """Energy of a matched grating of amplitude A is near A^2 / 4, and no other filter's is larger."""
    frequency, theta = CONFIG.frequencies[row], np.pi * turn / 4
    y, x = np.indices((64, 64))
    grating = 70 * np.cos(2 * np.pi * frequency * (x * np.cos(theta) + y * np.sin(theta)))
    energies = [float(e[0, 20:44, 20:44].mean()) for e in energy_maps(torch.from_numpy(grating).float()[None], CONFIG)]
    assert int(np.argmax(energies)) == row * 4 + turn
    assert energies[row * 4 + turn] == pytest.approx((70 / 700) ** 2 / 4, rel=0.12)


def test_names_tell_frequency_and_orientation() -> None:
    assert gabor_names(CONFIG)[:2] == ("gabor_0.10_000", "gabor_0.10_045")
    assert gabor_names(CONFIG)[-1] == "gabor_mean"
