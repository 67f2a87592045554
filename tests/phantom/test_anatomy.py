"""The chest is put together like one."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from diffseglung.phantom.record import Phantom


def test_there_are_two_lungs_right_first(small: Phantom) -> None:
    lungs = small.lungs.array
    assert set(np.unique(lungs).tolist()) == {0, 1, 2}
    x = [np.argwhere(lungs == k)[:, 2].mean() for k in (1, 2)]
    assert x[0] < x[1]
    for k in (1, 2):
        parts, count = ndimage.label(lungs == k)
        assert np.bincount(parts.ravel())[1 : count + 1].max() > 0.98 * (lungs == k).sum()


def test_lungs_lie_inside_the_body_and_hold_air(small: Phantom) -> None:
    inside = small.lungs.array > 0
    assert not inside[:, 0].any()
    assert not inside[:, -1].any()
    assert -900 < np.median(small.ct.array[inside]) < -650


def test_trachea_is_air_but_no_lung(small: Phantom) -> None:
    top = small.ct.array[-8]
    centre = top[:, top.shape[1] // 2 - 2 : top.shape[1] // 2 + 3]
    air = ndimage.gaussian_filter(centre, 0.7) < -850
    body = slice(top.shape[0] // 3, 3 * top.shape[0] // 4)
    assert air[body].any()
    assert not small.lungs.array[-8][:, top.shape[1] // 2 - 2 : top.shape[1] // 2 + 3].any()


def test_the_back_is_denser_than_the_front(small: Phantom) -> None:
    hu, lungs = small.ct.array, small.lungs.array > 0
    rows = np.argwhere(lungs)[:, 1]
    front, back = np.percentile(rows, [20, 80])
    y = np.arange(hu.shape[1])[None, :, None]
    quartiles = [np.percentile(hu[lungs & part], 25) for part in (y < front, y > back)]
    assert quartiles[0] < quartiles[1]


def test_axes_are_canonical(small: Phantom) -> None:
    affine = small.ct.affine
    assert affine[2, 0] > 0
    assert affine[1, 1] > 0
    assert affine[0, 2] > 0
