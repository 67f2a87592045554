"""Air of the lungs is found without a network; room air, airways and bowel are not."""

from __future__ import annotations

import numpy as np
import pytest

from diffseglung.lungs.air_only import plain_air
from diffseglung.lungs.airways import find_airways
from diffseglung.lungs.coarse import Coarse, body_mask
from tests.lungs.conftest import AFFINE, SHAPE, Chest, dice, ellipsoid


def _lungs(chest: Chest) -> np.ndarray:
    """Those of the chest, 16 mm and more below the skin."""
    _, y, x = np.indices(SHAPE)
    across, along = AFFINE[0, 2] * x + AFFINE[0, 3], AFFINE[1, 1] * y + AFFINE[1, 3]
    return (chest.lungs > 0) & ((across / 98) ** 2 + (along / 66) ** 2 < 1)


def _found(hu: np.ndarray, chest: Chest) -> np.ndarray:
    hu = np.where((chest.lungs > 0) & ~_lungs(chest), 40.0, hu)
    coarse = Coarse.of(chest.ct.with_array(hu.astype(np.float32)), 2.0)
    body = body_mask(coarse)
    return plain_air(coarse, body, find_airways(coarse, body))


def test_lungs_are_found_and_nothing_else(chest: Chest) -> None:
    found = _found(chest.ct.array, chest)
    assert dice(found, _lungs(chest)) > 0.95
    assert not (found & chest.trachea).any()


def test_gas_below_the_lungs_is_bowel_and_gas_among_them_is_lung(chest: Chest) -> None:
    bowel, bulla = ellipsoid((55, -5, -142), (40, 30, 16)), ellipsoid((50, 10, 40), (30, 30, 30))
    found = _found(np.where(bowel | bulla, -985.0, chest.ct.array), chest)
    assert not (found & bowel & ~_lungs(chest)).any()
    assert found[bulla & _lungs(chest)].mean() > 0.95


@pytest.mark.parametrize("sides", [(1, 2), (1,), (2,)])
def test_lungs_that_read_like_gas_stay_lungs(chest: Chest, sides: tuple[int, ...]) -> None:
    hu = np.where(_lungs(chest) & np.isin(chest.lungs, sides), -985.0, chest.ct.array)
    assert dice(_found(hu, chest), _lungs(chest)) > 0.95


def test_a_scan_without_air_or_body_has_none(chest: Chest) -> None:
    for value in (40.0, -1000.0):
        assert not _found(np.full(chest.ct.shape, value), chest).any()
