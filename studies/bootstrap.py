"""Bootstrap intervals over cases: each resample is a row of weights, the number of times each case was drawn.

A statistic takes values per case and weights (R, N), and returns (R,). Weights of one give the estimate itself, so the
estimate and its interval come from the same function. Resamples with an unknown statistic are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
NAN = float("nan")
RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """An estimate, its interval, and the number of cases behind it; NaN is unknown."""

    value: float
    low: float
    high: float
    cases: int


def draws(cases: int, *, resamples: int = RESAMPLES, seed: int = 0) -> Numbers:
    """Weights (1 + resamples, cases): first each case once, then draws with replacement."""
    random = np.random.default_rng(seed)
    picked = random.integers(0, max(cases, 1), (resamples, cases))
    weights = np.zeros((resamples + 1, cases))
    weights[0] = 1
    np.add.at(weights, (np.arange(1, resamples + 1)[:, None], picked), 1)
    return weights


def estimate(values: Numbers, cases: int) -> Estimate:
    """From a statistic on `draws`: the first is the estimate, the others give the interval (unknown for one case)."""
    known = values[1:][np.isfinite(values[1:])]
    if not np.isfinite(values[0]) or not len(known) or cases < 2:
        return Estimate(float(values[0]), NAN, NAN, cases)
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(known, (tail, 100 - tail))
    return Estimate(float(values[0]), float(low), float(high), cases)


def ratio(above: Numbers, below: Numbers, weights: Numbers) -> Numbers:
    """Pooled ratio (R,): sum of `above` over sum of `below`; NaN if the denominator is 0."""
    total = weights @ below
    return np.asarray(np.where(total > 0, (weights @ above) / np.where(total > 0, total, 1), NAN))


def mean(values: Numbers, weights: Numbers) -> Numbers:
    """Mean (R,) over the cases in which the value is known."""
    known = np.isfinite(values)
    return ratio(np.where(known, values, 0), known.astype(np.float64), weights)


def deviation(values: Numbers, weights: Numbers) -> Numbers:
    """Standard deviation (R,) over the cases in which the value is known, with N - 1; NaN for fewer than two."""
    known = np.isfinite(values)
    count = weights @ known.astype(np.float64)
    offset = np.where(known, values - (values[known].mean() if known.any() else 0), 0)
    squares = weights @ offset**2 - (weights @ offset) ** 2 / np.maximum(count, 1)
    return np.asarray(np.where(count > 1, np.sqrt(np.maximum(squares, 0) / np.maximum(count - 1, 1)), NAN))


def median(values: Numbers, weights: Numbers) -> Numbers:
    """Median (R,) over the cases in which the value is known."""
    order = np.argsort(values)
    order = order[np.isfinite(values[order])]
    if not len(order):
        return np.full(len(weights), NAN)
    ranked, reached = values[order], np.cumsum(weights[:, order], axis=1)
    total = reached[:, -1:]
    lower, upper = (np.argmax(reached >= rank, axis=1) for rank in ((total + 1) // 2, total // 2 + 1))
    return np.asarray(np.where(total[:, 0] > 0, (ranked[lower] + ranked[upper]) / 2, NAN))


def mean_of_known(rows: Numbers) -> Numbers:
    """Mean (R,) of statistics (K, R) over those that are known."""
    known = np.isfinite(rows)
    count = known.sum(0)
    return np.asarray(np.where(count > 0, np.where(known, rows, 0).sum(0) / np.maximum(count, 1), NAN))
