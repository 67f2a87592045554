from __future__ import annotations

import numpy as np

from diffseglung.lungs.coarse import Coarse
from diffseglung.lungs.sides import LEFT, RIGHT, side_field


def coarse_of(lungs: np.ndarray) -> Coarse:
    hu = np.full(lungs.shape, 40, np.float32)
    hu[lungs] = -850
    return Coarse(hu, (2.0, 2.0, 2.0), (1, 1, 1))


def two_lungs() -> np.ndarray:
    lungs = np.zeros((30, 40, 60), bool)
    lungs[5:25, 8:32, 8:28] = lungs[5:25, 8:32, 32:52] = True
    return lungs


def test_right_is_where_x_is_small() -> None:
    lungs = two_lungs()
    field = side_field(lungs, coarse_of(lungs))
    assert (field[:, :, :28][lungs[:, :, :28]] == RIGHT).all()
    assert (field[:, :, 32:][lungs[:, :, 32:]] == LEFT).all()
    assert set(np.unique(field)) == {RIGHT, LEFT}


def test_lungs_that_touch_are_cut_at_the_contact() -> None:
    lungs = two_lungs()
    lungs[12:16, 8:12, 28:32] = True
    field = side_field(lungs, coarse_of(lungs))
    assert (field[:, :, :28][lungs[:, :, :28]] == RIGHT).all()
    assert (field[:, :, 32:][lungs[:, :, 32:]] == LEFT).all()


def test_one_lung_in_two_pieces_stays_one_lung() -> None:
    lungs = np.zeros((30, 40, 60), bool)
    lungs[3:13, 8:32, 8:28] = lungs[16:27, 8:32, 8:28] = True
    assert set(np.unique(side_field(lungs, coarse_of(lungs)))) == {RIGHT}
