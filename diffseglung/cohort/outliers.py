"""Which scans lie far from the others, by a rule that the outliers themselves do not move.

The modified z score of Iglewicz and Hoaglin (How to Detect and Handle Outliers, ASQC 1993): a value is an outlier where
|value - median| > 3.5 x 1.4826 x MAD, with MAD the median of |value - median|. Where more than half of the values are
equal, MAD is 0, and 1.2533 x the mean of |value - median| takes the place of 1.4826 x MAD.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LIMIT = 3.5
"""Of the modified z score."""
MAD_TO_SD = 1.4826
"""1 / 0.6745: what makes MAD the standard deviation of normal values."""
MEAN_TO_SD = 1.2533
"""sqrt(pi / 2): the same for the mean distance from the median."""
FEWEST = 8
"""Known values below which nothing is called an outlier, and no quartiles are drawn."""


@dataclass(frozen=True)
class Spread:
    """Where the values of one column lie.

    low, high: beyond them a value is an outlier (None: too few values, or all are equal).
    outliers: positions in the column, in its order.
    """

    count: int
    median: float | None
    low: float | None
    high: float | None
    outliers: tuple[int, ...]


def spread(column: Sequence[float | None]) -> Spread:
    """The spread of a column, of which None and NaN are left out."""
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
