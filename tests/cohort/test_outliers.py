"""The modified z score: outliers do not hide each other, and few or equal values have none."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from diffseglung.cohort.outliers import FEWEST, MAD_TO_SD, MEAN_TO_SD, spread


def test_the_constants_make_both_scales_a_standard_deviation() -> None:
    assert pytest.approx(1 / stats.norm.ppf(0.75), abs=5e-5) == MAD_TO_SD
    assert pytest.approx(np.sqrt(np.pi / 2), abs=5e-5) == MEAN_TO_SD


@pytest.mark.parametrize("seed", range(5))
def test_the_rule_is_the_published_one(seed: int) -> None:
    values = np.random.default_rng(seed).standard_t(2, 60)
    score = 0.6745 * (values - np.median(values)) / np.median(np.abs(values - np.median(values)))
    clear = np.abs(np.abs(score) - 3.5) > 1e-3
    found = np.isin(np.arange(60), spread(values.tolist()).outliers)
    assert (found == (np.abs(score) > 3.5))[clear].all()
    assert found.any()


def test_many_outliers_do_not_hide_each_other_as_they_do_from_the_mean() -> None:
    values = [5000.0, 5100, 4900, 5050, 4950, 5020, 4980, 700, 710, 720]
    assert spread(values).outliers == (7, 8, 9)
    assert np.abs(stats.zscore(values)).max() < 2


def test_limits_are_where_outliers_begin() -> None:
    found = spread([float(value) for value in [*range(20), 1000]])
    assert found.median == 10
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0 < 19 < found.high < 1000
    assert found.outliers == (20,)


def test_where_most_are_equal_the_mean_distance_is_taken() -> None:
    assert spread([0.0] * 30 + [0.1, 30.0]).outliers == (31,)


@pytest.mark.parametrize(
    "values", [[], [None] * 20, [5.0] * 20, [1.0, 1.1, 1.2, 1.1, 1.0, 900.0], [1.0] * (FEWEST - 2) + [9.0, None, None]]
)
def test_few_or_equal_values_have_no_outliers(values: list[float | None]) -> None:
    assert spread(values).outliers == ()


def test_unknown_values_count_for_nothing_and_keep_their_place() -> None:
    values = [1.0, 1.1, None, 1.2, 1.1, 1.0, 0.9, float("nan"), 1.05, 50.0]
    found = spread(values)
    assert found.count == 8
    assert found.outliers == (9,)
