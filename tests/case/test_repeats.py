"""Voxels that are stored several times are found, and only those."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffseglung.case.repeats import Repeats, own_voxels
from diffseglung.volume import Array, Shape, Volume

TIMES = st.tuples(*[st.integers(1, 4)] * 3)


def enlarged(array: Array, times: Shape) -> Array:
    for axis, n in enumerate(times):
        array = array.repeat(n, axis)
    return array


def noise(shape: Shape, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@settings(max_examples=30)
@given(times=TIMES, seed=st.integers(0, 99))
def test_what_was_enlarged_comes_back(times: Shape, seed: int) -> None:
    own = Volume(noise((5, 6, 7), seed), np.diag([2.0, 1.0, 0.5, 1.0]))
    affine = own.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ ((np.array(times) - 1) / (2 * np.array(times)))
    affine[:3, :3] /= times
    stored = Volume(enlarged(own.array, times), affine)
    found = Repeats.of(stored)
    assert found.times == times
    np.testing.assert_array_equal(found.once(stored).array, own.array)
    np.testing.assert_allclose(found.once(stored).affine, own.affine, atol=1e-9)
    np.testing.assert_array_equal(found.again(own.array), stored.array)
    assert bool(found.notes()) == (found.copies > 1)


def test_a_single_voxel_that_differs_is_enough() -> None:
    array = enlarged(noise((5, 6, 7)), (2, 2, 2))
    array[3, 5, 9] += 1
    assert Repeats.of(Volume(array, np.eye(4))).times == (1, 1, 1)


def test_borders_at_odd_places_have_no_factor() -> None:
    """Runs of 2, 4 and 3 slices are no enlargement; runs of 2, 4 and 6 are one by 2."""

    def stacked(*runs: int) -> Volume:
        slices = np.repeat(noise((3, 6, 7)), runs, 0)
        return Volume(slices, np.eye(4))

    assert Repeats.of(stacked(2, 4, 3)).times == (1, 1, 1)
    assert Repeats.of(stacked(2, 4, 6)).times == (2, 1, 1)


def test_nothing_is_taken_from_an_even_scan() -> None:
    assert Repeats.of(Volume(np.full((8, 8, 8), -1000.0, np.float32), np.eye(4))).times == (1, 1, 1)


def test_voxels_never_become_larger_than_a_scan_may_have() -> None:
    assert Repeats.of(Volume(enlarged(noise((4, 4, 4)), (4, 1, 1)), np.diag([8.0, 1, 1, 1]))).times == (1, 1, 1)


@pytest.mark.parametrize(("changes", "times"), [((slice(4, 8),) * 3, (2, 2, 2)), ((slice(5, 8),) * 3, (1, 1, 1))])
def test_a_finer_mask_keeps_the_voxels_fine(changes: tuple[slice, ...], times: Shape) -> None:
    ct = Volume(enlarged(noise((6, 6, 6)), (2, 2, 2)), np.eye(4))
    mask = np.zeros(ct.shape, np.uint8)
    mask[changes] = 1
    repeats, own, own_mask = own_voxels(ct, ct.with_array(mask))
    assert own_mask is not None
    assert (repeats.times, own.shape, own_mask.shape) == (times, own.shape, own.shape)
    np.testing.assert_array_equal(repeats.again(own_mask.array), mask)


def test_a_mask_on_another_grid_is_left_alone() -> None:
    ct = Volume(enlarged(noise((6, 6, 6)), (2, 2, 2)), np.eye(4))
    mask = Volume(np.ones((3, 3, 3), np.uint8), np.diag([4.0, 4, 4, 1]))
    repeats, own, same = own_voxels(ct, mask)
    assert (repeats.times, own.shape, same) == ((2, 2, 2), (6, 6, 6), mask)
