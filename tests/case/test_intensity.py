from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffseglung.case.intensity import denormalise, normalise
from diffseglung.platform.config import IntensityConfig


@pytest.mark.parametrize(("hu", "norm"), [(-1000, -1), (-300, 0), (400, 1), (-2000, -1), (3000, 1)])
def test_the_published_window(hu: float, norm: float) -> None:
    assert normalise(np.array([hu])) == pytest.approx(norm)
    assert normalise(np.array([hu])).dtype == np.float32


@given(st.floats(-1000, 400), st.sampled_from([(-1000.0, 400.0), (-1024.0, 600.0)]))
def test_denormalise_is_the_inverse_inside_the_window(hu: float, window: tuple[float, float]) -> None:
    config = IntensityConfig(low_hu=window[0], high_hu=window[1])
    assert denormalise(normalise(np.array([hu]), config), config)[0] == pytest.approx(hu, abs=1e-3)


def test_the_input_is_left_alone() -> None:
    hu = np.array([-2000.0, 5000.0], np.float32)
    normalise(hu)
    np.testing.assert_array_equal(hu, [-2000, 5000])
