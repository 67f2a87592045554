from __future__ import annotations

import numpy as np
import pytest
import torch

from diffseglung.lungs.orientation import EXCHANGES, FIELD, OrientationNet, exchanged, field_around


def test_the_network_gives_one_logit_an_exchange() -> None:
    assert OrientationNet()(torch.zeros(2, 3, *FIELD)).shape == (2, len(EXCHANGES))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_what_is_turned_once_more_gets_the_opposite_answer(axis: int) -> None:
    field = torch.from_numpy(np.random.default_rng(axis).uniform(-1, 1, (3, *FIELD)).astype(np.float32))
    before, after = exchanged(field), exchanged(field.flip(axis + 1))
    expected = [1 - p if i == axis else p for i, p in enumerate(before)]
    np.testing.assert_allclose(after, expected, atol=1e-4)


def test_a_symmetric_scan_tells_nothing_of_its_sides() -> None:
    half = np.random.default_rng(0).uniform(-1, 1, (3, *FIELD)).astype(np.float32)
    assert exchanged(torch.from_numpy(half + half[..., ::-1]))[2] == pytest.approx(0.5, abs=1e-4)


def test_the_field_lies_around_the_lungs_and_beyond_the_scan_is_air() -> None:
    lungs = np.zeros((40, 20, 30), bool)
    lungs[30:38, 4:8, 2:6] = True
    windows = torch.ones(3, *lungs.shape)
    field = field_around(windows, lungs)
    assert field.shape == (3, *FIELD)
    inside = (field == 1).all(0)
    assert inside[FIELD[0] // 2, FIELD[1] // 2, FIELD[2] // 2]
    assert inside.sum() == 19 * 10 * 15  # all of the scan but what lies farther than half the field below
    assert set(field.unique().tolist()) == {-1.0, 1.0}
