"""Statistics on weights equal those on repeated cases; intervals cover as they claim."""

from __future__ import annotations

import numpy as np
import pytest

from studies.bootstrap import deviation, draws, estimate, mean, mean_of_known, median, ratio

VALUES = np.array([3.0, np.nan, -1.0, 7.5, 2.0, 2.0])


def repeated(row: np.ndarray) -> np.ndarray:
    """The known values, each as often as its case was drawn."""
    values = np.repeat(VALUES, row.astype(int))
    return values[np.isfinite(values)]


@pytest.mark.parametrize(
    ("statistic", "plain"), [(mean, np.mean), (median, np.median), (deviation, lambda x: np.std(x, ddof=1))]
)
def test_weights_stand_for_repetition(statistic, plain) -> None:  # type: ignore[no-untyped-def]
    weights = draws(len(VALUES), resamples=50, seed=1)
    wanted = [plain(x) if len(x := repeated(row)) > 1 else np.nan for row in weights]
    enough = np.isfinite(wanted)
    np.testing.assert_allclose(statistic(VALUES, weights)[enough], np.array(wanted)[enough], atol=1e-6)


def test_draws_begin_with_every_case_once_and_are_seeded() -> None:
    weights = draws(7, resamples=20, seed=3)
    assert (weights[0] == 1).all()
    assert (weights.sum(1) == 7).all()
    np.testing.assert_array_equal(weights, draws(7, resamples=20, seed=3))
    assert (weights != draws(7, resamples=20, seed=4)).any()


def test_the_interval_of_a_normal_mean_is_about_two_standard_errors() -> None:
    values = np.random.default_rng(0).normal(10, 2, 200)
    found = estimate(mean(values, draws(200)), 200)
    half = 1.96 * values.std() / np.sqrt(200)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_intervals_cover_the_true_mean_about_as_often_as_they_say() -> None:
    random, covered = np.random.default_rng(5), 0
    weights = draws(40, resamples=400)
    for _ in range(300):
        found = estimate(mean(random.normal(0, 1, 40), weights), 40)
        covered += found.low <= 0 <= found.high
    assert 0.90 <= covered / 300 <= 0.98


def test_a_paired_difference_is_narrower_than_the_two_intervals() -> None:
    """What is common to both methods, how hard a case is, cancels."""
    random = np.random.default_rng(0)
    hard = random.normal(0, 5, 60)
    first, second = hard + random.normal(1, 0.1, 60), hard + random.normal(0, 0.1, 60)
    weights = draws(60)
    gain = estimate(mean(first, weights) - mean(second, weights), 60)
    alone = estimate(mean(first, weights), 60)
    assert gain.low > 0.9
    assert gain.high - gain.low < 0.1 * (alone.high - alone.low)


def test_unknown_stays_unknown() -> None:
    weights = draws(3, resamples=10)
    nothing = np.full(3, np.nan)
    for statistic in (mean, median, deviation):
        assert np.isnan(statistic(nothing, weights)).all()
    assert np.isnan(ratio(np.ones(3), np.zeros(3), weights)).all()
    np.testing.assert_array_equal(mean_of_known(np.array([[1.0, np.nan], [3.0, np.nan]])), [2.0, np.nan])
    single = estimate(mean(np.ones(1), draws(1)), 1)
    assert single.value == 1
    assert np.isnan([single.low, single.high]).all()
