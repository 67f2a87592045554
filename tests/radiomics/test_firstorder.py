"""First-order statistics against IBSI and SciPy."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from diffseglung.config import RadiomicsConfig
from diffseglung.radiomics.firstorder import entropy, first_order_patch, moments, quantise

from .conftest import GOLDEN, Patch


def test_ibsi_digital_phantom() -> None:
    """The published consensus values of the phantom, to the digits given."""
    golden = json.loads((GOLDEN / "ibsi_digital_phantom.json").read_text(encoding="utf-8"))["first_order"]
    image, mask = (np.load(GOLDEN / f"ibsi_digital_phantom_{name}.npy") for name in ("image", "mask"))
    inside = image[mask > 0]
    mean, variance, skewness, kurtosis = moments(inside)
    found = {"mean": mean, "variance": variance, "skewness": skewness, "excess_kurtosis": kurtosis}
    found["entropy"] = entropy(np.bincount(inside))
    assert found.keys() == golden.keys()
    assert found == pytest.approx(golden, rel=5e-3)


def test_agrees_with_scipy(real: Patch) -> None:
    """Independent implementation of the same moments."""
    hu, lung = real
    inside = np.clip(hu, -1000, 400)[lung].astype(float)
    found = first_order_patch(np.clip(hu, -1000, 400), lung, RadiomicsConfig())
    counts, _ = np.histogram(inside, 50, (-1000, 400))
    wanted = [inside.mean(), inside.std(), stats.skew(inside), stats.kurtosis(inside), stats.entropy(counts, base=2)]
    assert found == pytest.approx(np.array(wanted), rel=1e-9)


def test_levels_share_the_window_evenly() -> None:
    """64 levels of 21.875 HU; what lies outside joins the last level on its side."""
    levels = quantise(np.array([-2000, -1000, -978.2, -978.0, 399, 400, 3000]), 64, RadiomicsConfig())
    assert levels.tolist() == [0, 0, 0, 1, 63, 63, 63]


def test_entropy_of_equal_shares() -> None:
    """n equally full bins hold log2 n bits."""
    assert entropy(np.array([5, 5, 0, 5, 5])) == pytest.approx(2.0)
    assert np.isnan(entropy(np.zeros(4, int)))
