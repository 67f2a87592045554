from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from diffseglung.case.alignment import (
    REFERENCE_HU,
    HealthyLevel,
    air_level,
    align,
    healthy_level,
    lung_levels,
    median_at,
)
from diffseglung.volume import Volume


def lung(level: float, slope: float, *, sick: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """A noisy block of lung with a gravity gradient (HU a voxel of 1.5 mm) and a share of GGO."""
    random = np.random.default_rng(3)
    shape = (40, 60, 50)
    hu = level + slope * (np.arange(shape[1]) - 30)[None, :, None] + random.normal(0, 25, shape)
    hu[: int(sick * shape[0])] = -600 + random.normal(0, 40, (int(sick * shape[0]), *shape[1:]))
    return hu.astype(np.float32), np.ones(shape, bool)


@pytest.mark.parametrize("level", [-900.0, -860.0, -780.0])
@pytest.mark.parametrize("sick", [0.0, 0.4])
def test_level_and_slope_are_found_also_beside_disease(level: float, sick: float) -> None:
    hu, lungs = lung(level, 0.45, sick=sick)
    found = healthy_level(hu, lungs, 1.5)
    assert found.level_hu == pytest.approx(level, abs=10)
    assert found.slope == pytest.approx(0.3, abs=0.07)


def test_lungs_breathed_out_keep_their_level_beside_emphysema() -> None:
    hu, lungs = lung(-730.0, 0.0)
    hu[:10] += -850 + 730
    assert healthy_level(hu, lungs, 1.5).level_hu == pytest.approx(-730, abs=15)


def two_lungs(right: float, left: float, *, litres: float = 1.0, noise: float = 25.0) -> tuple[np.ndarray, np.ndarray]:
    """HU and sides of two blocks of lung on a 3 mm grid."""
    sides = np.ones((20, 60, 2 * round(litres * 1e6 / 27 / 1200)), np.uint8)
    sides[..., sides.shape[2] // 2 :] = 2
    random = np.random.default_rng(1)
    return np.where(sides == 1, right, left) + random.normal(0, noise, sides.shape).astype(np.float32), sides


@pytest.mark.parametrize(("right", "left"), [(-890.0, -790.0), (-780.0, -860.0)])
def test_each_lung_has_its_own_level_where_both_can_be_healthy(right: float, left: float) -> None:
    levels = lung_levels(*two_lungs(right, left), 3.0)
    assert levels is not None
    assert [level.level_hu for level in levels] == pytest.approx([right, left], abs=10)


@pytest.mark.parametrize(
    ("right", "left", "litres"),
    [
        (-860.0, -840.0, 1.0),  # alike
        (-860.0, -650.0, 1.0),  # full of ground glass
        (-860.0, -770.0, 3.5),  # too heavy for a healthy lung
        (-940.0, -850.0, 1.0),  # full of emphysema
        (-890.0, -790.0, 0.2),  # too small to tell
    ],
)
def test_else_both_have_one(right: float, left: float, litres: float) -> None:
    assert lung_levels(*two_lungs(right, left, litres=litres), 3.0) is None


def test_a_lung_of_uneven_disease_is_not_taken_for_healthy() -> None:
    hu, sides = two_lungs(-870.0, -780.0)
    mottled = np.random.default_rng(2).uniform(-100, 300, hu.shape)
    assert lung_levels(np.where(sides == 2, hu + ndimage.gaussian_filter(mottled, 3) * 8, hu), sides, 3.0) is None


def test_alignment_takes_the_healthy_level_to_the_reference_and_keeps_air_and_tissue() -> None:
    level = HealthyLevel(-800.0, 0.0, 0.0)
    hu = np.array([-1000.0, -800.0, 0.0, 60.0], np.float32).reshape(4, 1, 1)
    assert align(hu, level, 1.5).ravel() == pytest.approx([-1000, REFERENCE_HU, 0, 60], abs=1e-3)


def test_alignment_keeps_the_order_of_hu() -> None:
    hu = np.linspace(-1024, 200, 500, dtype=np.float32).reshape(500, 1, 1)
    assert (np.diff(align(hu, HealthyLevel(-760.0, 0.2, 50.0), 1.5).ravel()) > 0).all()


def test_two_breaths_of_one_patient_look_alike_after_alignment() -> None:
    for level in (-880.0, -760.0):
        hu, lungs = lung(level, 0.3)
        aligned = align(hu, healthy_level(hu, lungs, 1.5), 1.5)
        assert np.median(aligned) == pytest.approx(REFERENCE_HU, abs=12)


def body_in_air(air: float, noise: float = 20.0) -> Volume:
    """A box of tissue in a room whose air reads `air`."""
    rng = np.random.default_rng(0)
    hu = np.full((20, 80, 80), air, np.float32)
    hu[:, 20:60, 20:60] = 40
    return Volume(hu + rng.normal(0, noise, hu.shape).astype(np.float32), np.diag([1.0, 1.0, 1.0, 1.0]))


@pytest.mark.parametrize("air", [-1012.0, -1000.0, -991.0])
def test_air_is_read_from_the_room(air: float) -> None:
    assert air_level(body_in_air(air)) == pytest.approx(air, abs=2)


def test_air_that_was_clipped_or_is_not_there_counts_as_minus_1000() -> None:
    noisy = body_in_air(-1000.0)
    assert air_level(noisy.with_array(np.maximum(noisy.array, -1000.0))) == -1000.0
    assert air_level(noisy.with_array(np.full(noisy.shape, 40.0, np.float32))) == -1000.0


@pytest.mark.parametrize("offset", [-13.0, 9.0])
def test_the_common_scale_takes_out_an_error_in_air(offset: float) -> None:
    gas = np.linspace(0.86, 1.0, 8)  # of a voxel; the rest is tissue of 0 HU
    hu = (-gas * (1000.0 - offset)).astype(np.float32).reshape(1, 1, -1)
    level = HealthyLevel(float(hu.flat[0]), 0.0, 0.0, air_hu=-1000.0 + offset)
    assert align(hu, level, 1.5).ravel() == pytest.approx(-gas * 1000, abs=0.01)


def test_medians_are_those_of_the_filter_at_any_voxels() -> None:
    hu = np.random.default_rng(0).normal(-800, 60, (9, 11, 13)).astype(np.float32)
    voxels = np.argwhere(np.random.default_rng(1).random(hu.shape) < 0.3)
    expected = ndimage.median_filter(hu, 3, mode="nearest")[tuple(voxels.T)]
    np.testing.assert_array_equal(median_at(hu, voxels), expected)
    assert median_at(hu, voxels[:0]).shape == (0,)
