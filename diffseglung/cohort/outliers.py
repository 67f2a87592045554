"""Outliers of a column, by a robust rule.

The modified z score of Iglewicz and Hoaglin (How to Detect and Handle Outliers, ASQC 1993): a value is an outlier where
|value - median| > 3.5 x 1.4826 x MAD, with MAD the median of |value - median|. If more than half of the values are
equal, MAD is 0, and 1.2533 x the mean of |value - median| replaces 1.4826 x MAD.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LIMIT = 3.5
"""Largest modified z score of a value that is not an outlier."""
MAD_TO_SD = 1.4826
"""1 / 0.6745: ratio of standard deviation to MAD for normal values."""
MEAN_TO_SD = 1.2533
"""sqrt(pi / 2): ratio of standard deviation to mean absolute deviation."""
FEWEST = 8
"""Fewest known values for outliers and quartiles."""


@dataclass(frozen=True)
class Spread:
    """The spread of the values of a column.

    low, high: limits beyond which a value is an outlier (None: too few values, or all are equal).
    outliers: their positions in the column, ascending.
    """

    count: int
    median: float | None
    low: float | None
    high: float | None
    outliers: tuple[int, ...]


def spread(column: Sequence[float | None]) -> Spread:
    """The spread of a column; None and NaN are ignored.

    >>> spread([3.0, 3.1, 2.9, 3.2, 2.8, 3.0, None, 3.1, 9.0]).outliers
    (8,)
    """
    every = np.array([np.nan if value is None else value for value in column], np.float64)
    known = every[np.isfinite(every)]
    if not len(known):
        return Spread(0, None, None, None, ())
    median = float(np.median(known))
    away = np.abs(known - median)
    scale = MAD_TO_SD * float(np.median(away)) or MEAN_TO_SD * float(away.mean())
    if len(known) < FEWEST or scale == 0:
        return Spread(len(known), median, None, None, ())
    far = np.flatnonzero(np.abs(every - median) > LIMIT * scale)  # NaN compares as False
    return Spread(len(known), median, median - LIMIT * scale, median + LIMIT * scale, tuple(far.tolist()))
