"""Gabor energies against scikit-image's kernels and SciPy's convolution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d, fftconvolve
from skimage.filters import gabor_kernel

from diffseglung.method.radiomics.gabor import (
    angles,
    energy_maps,
    gabor_names,
    gabor_plane,
    kernel,
    unit_hu,
    zero_mean_kernel,
)
from diffseglung.platform.config import RadiomicsConfig

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


def test_tiles_leave_no_trace() -> None:
    """Planes larger than a tile, of odd sides, several at once: SciPy's convolution at every pixel."""
    planes = np.random.default_rng(2).normal(0, 200, (2, 45, 70))
    taps = [zero_mean_kernel(frequency, theta, CONFIG) for frequency, theta in FILTERS]
    for energy, one in zip(energy_maps(torch.from_numpy(planes).float(), CONFIG), taps, strict=True):
        assert energy.shape == planes.shape
        for found, plane in zip(energy.numpy(), planes / unit_hu(CONFIG), strict=True):
            assert found == pytest.approx(np.abs(fftconvolve(plane, one, mode="same")) ** 2, rel=1e-2, abs=1e-6)


def test_without_padding_only_the_inside_is_told() -> None:
    planes = torch.randn(2, 33, 20, generator=torch.Generator().manual_seed(0)) * 100
    whole, inside = energy_maps(planes, CONFIG), energy_maps(planes, CONFIG, padding=False)
    for one, other in zip(whole, inside, strict=True):
        torch.testing.assert_close(other, one[:, 7:-7, 7:-7], rtol=1e-3, atol=1e-7)


def test_energies_of_a_plane_are_means_over_its_lung(noise: Patch) -> None:
    plane, lung = np.where(noise[1][6], noise[0][6] + 800.0, 0.0), noise[1][6]
    maps = [e[0].double().numpy() for e in energy_maps(torch.from_numpy(plane).float()[None], CONFIG)]
    each = [energy[lung].mean() for energy in maps]
    assert gabor_plane(plane, lung, CONFIG) == pytest.approx(np.array([*each, np.mean(each)]), rel=1e-4)
    nothing = gabor_plane(plane, np.zeros_like(lung), CONFIG)
    assert nothing.shape == (len(gabor_names(CONFIG)),)
    assert np.isnan(nothing).all()


def test_half_the_window_is_one_unit() -> None:
    assert unit_hu(CONFIG) == 700
    assert unit_hu(RadiomicsConfig(low_hu=-900, high_hu=100)) == 500
