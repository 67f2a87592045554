"""Laws of the scanner."""

from __future__ import annotations

import numpy as np
import pytest

from diffseglung.phantom.record import Draw
from diffseglung.phantom.scanner import Scanner


@pytest.mark.parametrize("noise", [15.0, 50.0])
@pytest.mark.parametrize("sharpness", [0.0, 1.0])
def test_noise_has_the_asked_sd(noise: float, sharpness: float) -> None:
    image = Scanner(noise_hu=noise, sharpness=sharpness).scan(
        np.zeros((16, 64, 64), np.float32), 1.1, np.random.default_rng(0)
    )
    assert image.std() == pytest.approx(noise, rel=0.03)
    assert image.mean() == pytest.approx(0, abs=1)


def test_a_sharp_kernel_moves_noise_to_high_frequencies() -> None:
    def correlation(sharpness: float) -> float:
        noise = Scanner(sharpness=sharpness).noise(np.random.default_rng(0), (4, 96, 96))
        return float(np.corrcoef(noise[..., 1:].ravel(), noise[..., :-1].ravel())[0, 1])

    assert correlation(0.0) > correlation(0.5) > correlation(1.0)


@pytest.mark.parametrize("slice_mm", [0.6, 1.0, 2.3, 5.0])
def test_slice_profiles_have_weight_one_and_their_thickness(slice_mm: float) -> None:
    scanner = Scanner(slice_mm=slice_mm, thickness_mm=slice_mm * 1.2)
    profiles = scanner.profiles(100, 1.1)
    np.testing.assert_allclose(profiles.sum(1), 1, rtol=1e-5)
    centres = profiles @ np.arange(100)
    inner = slice(3, -3)
    np.testing.assert_allclose(centres[inner], scanner.slice_centres(100, 1.1)[inner], atol=0.35)
    assert len(profiles) == int(110 / slice_mm + 1e-6)


def test_a_thick_slice_averages_what_it_covers() -> None:
    hu = np.full((50, 8, 8), -1000, np.float32)
    hu[25:] = 0
    scanner = Scanner(slice_mm=5.0, thickness_mm=5.0, noise_hu=0.0, blur_mm=0.01, sharpness=0.0)
    image = scanner.scan(hu, 1.0, np.random.default_rng(0))
    assert image.shape[0] == 10
    assert image[:5].max() == -1000
    assert image[5:].min() == 0


def test_calibration_error_and_whole_numbers() -> None:
    image = Scanner(noise_hu=0.0, offset_hu=-12.0).scan(
        np.full((5, 16, 16), -860, np.float32), 1.1, np.random.default_rng(0)
    )
    np.testing.assert_array_equal(image, -872)


@pytest.mark.parametrize("seed", range(8))
def test_random_protocols_are_clinical(seed: int) -> None:
    scanner = Scanner.random(Draw(seed), small=False)
    assert 0.7 <= scanner.in_plane_mm <= 1.0
    assert 0.6 <= scanner.slice_mm <= 5.0
    assert scanner.thickness_mm >= scanner.slice_mm
    assert 15 <= scanner.noise_hu <= 50
    assert abs(scanner.offset_hu) <= 12
