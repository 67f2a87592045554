"""Distances between two clouds of feature vectors: Frechet distance, precision and recall, and their intervals.

A row of a cloud is the feature vector of one sub-patch; `groups` gives the patch it was cut from.
Sub-patches of a patch are not independent, so intervals resample patches.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.covariance import ledoit_wolf

from studies.bootstrap import LEVEL, NAN, Estimate

Rows = NDArray[np.float64]
Groups = NDArray[np.int64]
NEIGHBOURS = 3
"""k of Kynkaanniemi et al. 2019."""


def standardised(rows: Rows, by: Rows) -> Rows:
    """Rows (n, d) in standard deviations of `by` (m, d) from its mean; a constant column is only shifted."""
    spread = by.std(0)
    return np.asarray((rows - by.mean(0)) / np.where(spread > 0, spread, 1))


def gaussian(rows: Rows) -> tuple[Rows, Rows]:
    """Mean (d,) and covariance (d, d), shrunk towards a multiple of the identity (Ledoit & Wolf 2004).

    Few rows would otherwise give a singular covariance. The shrinkage assumes independent rows.
    """
    covariance, _ = ledoit_wolf(rows)
    return rows.mean(0), np.asarray(covariance)


def frechet_distance(one: tuple[Rows, Rows], other: tuple[Rows, Rows]) -> float:
    """Squared Frechet distance of two Gaussians (mean, covariance) (Dowson & Landau 1982, eq. 4; Heusel et al. 2017).

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1^1/2 C2 C1^1/2)^1/2)
    """
    (mean, covariance), (mean_other, covariance_other) = one, other
    value, vector = np.linalg.eigh(covariance)
    root = (vector * np.sqrt(np.clip(value, 0, None))) @ vector.T
    inner = np.linalg.eigvalsh(root @ covariance_other @ root)
    between = covariance.trace() + covariance_other.trace() - 2 * np.sqrt(np.clip(inner, 0, None)).sum()
    return float(((mean - mean_other) ** 2).sum() + between)


def precision_recall(reference: Rows, drawn: Rows, k: int = NEIGHBOURS) -> tuple[float, float]:
    """Improved precision and recall (Kynkaanniemi et al. 2019, eqs. 1 and 2).

    Precision: fraction of generated rows within the k-th-neighbour distance of a reference row; recall: the reverse.
    NaN if a cloud has no more than k rows.
    """
    if min(len(reference), len(drawn)) <= k:
        return NAN, NAN
    across = cdist(reference, drawn)
    radius, radius_drawn = (np.sort(cdist(rows, rows), axis=1)[:, k] for rows in (reference, drawn))
    within = (across <= radius[:, None]).any(0).mean()
    return float(within), float((across <= radius_drawn[None]).any(1).mean())


def resampled(
    statistic: Callable[[Groups], float], groups: Groups, *, resamples: int, seed: int, recentre: bool
) -> Estimate:
    """A statistic of row indices, with its interval from resampling whole patches.

    groups: (rows,) patch of each row.  recentre: shift the resamples so that their mean is the estimate. Repeated
    patches narrow a cloud, which raises every Frechet distance; recentring removes that shift and keeps the
    spread.
    """
    names = np.unique(groups)
    value = statistic(np.arange(len(groups)))
    if len(names) < 2 or not np.isfinite(value):
        return Estimate(value, NAN, NAN, len(names))
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(groups == name) for name in names]
    found = [
        statistic(np.concatenate([members[i] for i in rng.integers(0, len(names), len(names))]))
        for _ in range(resamples)
    ]
    known = np.array([f for f in found if np.isfinite(f)])
    if not len(known):
        return Estimate(value, NAN, NAN, len(names))
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(known + (value - known.mean() if recentre else 0.0), (tail, 100 - tail))
    return Estimate(value, float(max(low, 0.0) if recentre else low), float(high), len(names))
