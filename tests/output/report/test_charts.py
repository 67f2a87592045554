"""The histogram counts every lung voxel once."""

from __future__ import annotations

import numpy as np

from diffseglung.labels import TISSUES
from diffseglung.output.report import charts
from diffseglung.segmentation import Segmentation


def test_counts_are_those_of_the_label_map(chest: Segmentation) -> None:
    counts = charts.histogram(chest)
    ids = chest.label_map.array
    np.testing.assert_array_equal(counts.sum(1)[1:], np.bincount(ids.ravel(), minlength=7)[1:])
    assert counts[0].sum() == 0
    place = (-960 - charts.LOW_HU) // charts.BIN_HU
    assert counts[2, place] == (ids == 2).sum()


def test_a_curve_for_each_class_that_occurs(chest: Segmentation) -> None:
    counts = charts.histogram(chest)
    counts[3] = 0
    drawn = str(charts.histogram_svg(counts))
    assert [f'data-class="{label.id}"' in drawn for label in TISSUES] == [True, True, False, True, True]
