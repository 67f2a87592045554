"""The Frechet distance has closed forms; precision and recall their limits; intervals hold their figure."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg

from studies.frechet import frechet_distance, gaussian, precision_recall, resampled, standardised


def cloud(n: int, d: int = 4, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) + rng.standard_normal(d)


def test_distance_is_the_closed_form() -> None:
    one, other = gaussian(cloud(60)), gaussian(cloud(80, seed=1))
    root = linalg.sqrtm(one[1] @ other[1]).real
    wanted = ((one[0] - other[0]) ** 2).sum() + np.trace(one[1] + other[1] - 2 * root)
    assert frechet_distance(one, other) == pytest.approx(wanted, rel=1e-6)
    assert frechet_distance(one, other) == pytest.approx(frechet_distance(other, one))
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)


def test_a_shift_costs_its_square_and_a_turn_nothing() -> None:
    mean, covariance = gaussian(cloud(60))
    assert frechet_distance((mean, covariance), (mean + 3, covariance)) == pytest.approx(9 * len(mean))
    other = gaussian(cloud(50, seed=2))
    turn = np.linalg.qr(np.random.default_rng(3).standard_normal((4, 4)))[0]
    turned = [(turn @ m, turn @ c @ turn.T) for m, c in ((mean, covariance), other)]
    assert frechet_distance(*turned) == pytest.approx(frechet_distance((mean, covariance), other))
    assert frechet_distance((np.zeros(2), np.diag([4.0, 0.0])), (np.zeros(2), np.diag([1.0, 9.0]))) == pytest.approx(10)


def test_fewer_rows_than_columns_still_give_a_full_covariance() -> None:
    _, covariance = gaussian(cloud(6, d=12))
    assert np.linalg.eigvalsh(covariance).min() > 0


def test_standardising_takes_units_out_and_spares_constants() -> None:
    rows = cloud(30)
    rows[:, 0] = 7
    done = standardised(rows, rows)
    assert done[:, 0].tolist() == [0] * 30
    assert done[:, 1:].std(0) == pytest.approx(np.ones(3))
    assert standardised(rows * 1000, rows * 1000) == pytest.approx(done)


def test_precision_falls_when_samples_stray_and_recall_when_they_agree_too_much() -> None:
    rng = np.random.default_rng(0)
    real = rng.standard_normal((100, 2))
    assert precision_recall(real, real) == (1, 1)
    assert precision_recall(real, real + 100) == (0, 0)
    one_mode = precision_recall(real, real[:1] + 1e-3 * rng.standard_normal((100, 2)))
    assert one_mode[0] == 1
    assert one_mode[1] < 0.1
    strayed = precision_recall(real, np.concatenate([real[:50], real[:50] + 100]))
    assert strayed[0] == 0.5
    assert np.isnan(precision_recall(real[:3], real)).all()


def test_intervals_resample_patches_not_rows() -> None:
    groups = np.repeat(np.arange(8), 5)
    values = np.repeat(np.random.default_rng(0).standard_normal(8), 5)

    def mean(index: np.ndarray) -> float:
        return float(values[index].mean())

    by_patch = resampled(mean, groups, resamples=300, seed=0, recentre=False)
    by_row = resampled(mean, np.arange(40), resamples=300, seed=0, recentre=False)
    assert by_patch.value == by_row.value
    assert by_patch.cases == 8
    assert by_patch.high - by_patch.low > 1.5 * (by_row.high - by_row.low)
    assert by_patch == resampled(mean, groups, resamples=300, seed=0, recentre=False)
    assert np.isnan(resampled(mean, groups * 0, resamples=300, seed=0, recentre=False).low)


def test_a_recentred_interval_holds_a_figure_that_resampling_shifts() -> None:
    rows = cloud(12)
    goal = gaussian(cloud(200, seed=5))

    def distance(index: np.ndarray) -> float:
        return frechet_distance(gaussian(rows[index]), goal)

    found = resampled(distance, np.arange(12), resamples=100, seed=0, recentre=True)
    assert 0 <= found.low < found.value < found.high
