"""Strength and grain of noise, found again where they are known."""

from __future__ import annotations

import numpy as np
import pytest

from diffseglung.phantom.scanner import Scanner
from diffseglung.quality.noise_spectrum import NoiseSpectrum, noise_spectrum
from diffseglung.volume import Volume


def _tissue(noise: np.ndarray, pixel_mm: float = 0.8, hu: float = 40.0) -> Volume:
    """Even soft tissue with noise (Z, Y, X)."""
    affine = np.zeros((4, 4))
    affine[[2, 1, 0, 3], [0, 1, 2, 3]] = [2.0, pixel_mm, pixel_mm, 1]
    return Volume((hu + noise).astype(np.float32), affine)


def _measured(volume: Volume) -> NoiseSpectrum:
    found = noise_spectrum(volume, 0, volume.shape[0] - 1)
    assert found is not None
    return found


@pytest.mark.parametrize("pixel_mm", [0.7, 1.0, 2.0])
def test_white_noise_has_the_closed_form(pixel_mm: float) -> None:
    noise = np.random.default_rng(0).normal(0, 20, (6, 160, 160))
    found = _measured(_tissue(noise, pixel_mm))
    assert found.sd_hu == pytest.approx(20, rel=0.03)
    mean_radius = (np.sqrt(2) + np.log(1 + np.sqrt(2))) / 3  # of a square of half width 1
    assert found.whiteness == pytest.approx(mean_radius, abs=0.03)


def test_noise_does_not_depend_on_what_tissue_reads() -> None:
    noise = np.random.default_rng(0).normal(0, 20, (6, 100, 100))
    one, other = _measured(_tissue(noise)), _measured(_tissue(noise, hu=150.0))
    assert one.sd_hu == pytest.approx(other.sd_hu, rel=1e-4)
    assert one.centroid == pytest.approx(other.centroid, rel=1e-4)


def test_sharper_kernels_have_a_finer_grain() -> None:
    def centroid(sharpness: float) -> float:
        scanner = Scanner(in_plane_mm=0.8, sharpness=sharpness, noise_hu=30)
        return _measured(_tissue(scanner.noise(np.random.default_rng(1), (6, 160, 160)))).centroid

    found = [centroid(s) for s in (0.0, 0.3, 0.6, 1.0)]
    assert found == sorted(found)
    assert found[-1] > found[0] + 0.1


def test_borders_are_not_noise() -> None:
    noise = np.random.default_rng(0).normal(0, 10, (6, 200, 200))
    tissue = _tissue(noise)
    tissue.array[:, ::50, :] = -100
    tissue.array[:, :, 100:] = -850
    assert _measured(tissue).sd_hu == pytest.approx(10, rel=0.1)


def test_without_soft_tissue_nothing_is_known() -> None:
    noise = np.random.default_rng(0).normal(0, 10, (6, 100, 100))
    assert noise_spectrum(_tissue(noise, hu=-850.0), 0, 5) is None
    assert noise_spectrum(_tissue(noise[:, :6, :6]), 0, 5) is None
