"""Confounders are drawn into healthy lung, which stays healthy by name."""

from __future__ import annotations

import numpy as np

from diffseglung.phantom.confounders import draw_confounders
from tests.phantom.test_canvas import LUNG_HU, even_lung


def test_confounders_change_lung_and_no_truth() -> None:
    changed = 0
    for seed in range(10):
        drawn = even_lung(seed)
        truth = drawn.truth.copy()
        draw_confounders(drawn, may_breathe_out=True)
        assert np.array_equal(drawn.truth, truth)
        assert (drawn.parenchyma[~drawn.lung] == LUNG_HU).all()
        changed += bool((drawn.parenchyma != LUNG_HU).any() or drawn.vessels.any())
    assert changed > 6
