"""Laws of random fields and cells."""

from __future__ import annotations

import numpy as np
import pytest

from diffseglung.phantom.texture import SmoothNoise, balls, cells, sheet, smooth_noise


@pytest.mark.parametrize("scale", [2.0, 6.0])
def test_smooth_noise_has_unit_sd_and_the_asked_correlation(scale: float) -> None:
    noise = smooth_noise(np.random.default_rng(0), (50, 60, 70), (1.0, 1.0, 1.0), scale)
    assert noise.mean() == pytest.approx(0, abs=0.15)
    assert noise.std() == pytest.approx(1, abs=0.12)
    near = np.corrcoef(noise[:-1].ravel(), noise[1:].ravel())[0, 1]
    far = np.corrcoef(noise[: -int(4 * scale)].ravel(), noise[int(4 * scale) :].ravel())[0, 1]
    assert near > 0.6
    assert abs(far) < 0.2


def test_slabs_of_a_field_fit_together() -> None:
    field = SmoothNoise(np.random.default_rng(1), (20, 9, 11), (1.5, 0.8, 0.8), 4.0)
    np.testing.assert_allclose(np.concatenate([field.slab(0, 7), field.slab(7, 20)]), field.slab(0, 20), atol=1e-5)


def test_cells_have_the_asked_size_and_walls_between_them() -> None:
    where = np.ones((30, 30, 30), bool)
    number, wall = cells(np.random.default_rng(0), where, (1.0, 1.0, 1.0), size_mm=8.0)
    volume = where.sum() / len(np.unique(number))
    assert 0.4 * 8**3 < volume < 1.6 * 8**3
    across = number[:, :, 1:] != number[:, :, :-1]
    assert np.percentile(wall[:, :, 1:][across], 95) < 1.0
    assert (wall >= 0).all()


def test_cells_of_nothing_are_nothing() -> None:
    number, _ = cells(np.random.default_rng(0), np.zeros((4, 4, 4), bool), (1.0, 1.0, 1.0), size_mm=8.0)
    assert (number == -1).all()


@pytest.mark.parametrize("thickness", [0.3, 1.0, 2.7])
def test_a_sheet_keeps_its_thickness(thickness: float) -> None:
    distance = (np.arange(-10, 11, dtype=np.float32) + 0.31).reshape(-1, 1, 1)
    assert sheet(distance, thickness, 1.0).sum() == pytest.approx(thickness, rel=1e-4)


def test_balls_keep_their_volume() -> None:
    share, signed = balls(np.array([[10.0, 10, 10]]), np.array([5.0]), (21, 21, 21), (1.0, 1.0, 1.0))
    assert share.sum() == pytest.approx(4 / 3 * np.pi * 125, rel=0.03)
    assert signed[10, 10, 10] == pytest.approx(-5)
