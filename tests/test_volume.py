from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffseglung.errors import GeometryError
from diffseglung.volume import Reorientation, Volume

AXES = st.permutations([0, 1, 2]).map(lambda p: (p[0], p[1], p[2]))
FLIPS = st.tuples(st.booleans(), st.booleans(), st.booleans())


def point(volume: Volume, index: tuple[int, int, int]) -> np.ndarray:
    return (volume.affine @ (*index, 1.0))[:3]


def test_spacing_follows_the_array_axes(oblique: Volume) -> None:
    assert oblique.shape == (5, 7, 9)
    assert oblique.spacing_mm == pytest.approx((2.5, 0.8, 0.7))
    assert oblique.voxel_ml == pytest.approx(2.5 * 0.8 * 0.7 / 1000)


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4, 5), (0, 3, 4)])
def test_an_array_without_three_axes_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(GeometryError, match="three axes"):
        Volume(np.zeros(shape), np.eye(4))


@pytest.mark.parametrize("affine", [np.zeros((4, 4)), np.eye(3), np.full((4, 4), np.nan)])
def test_a_grid_without_a_place_is_refused(affine: np.ndarray) -> None:
    with pytest.raises(GeometryError, match="affine"):
        Volume(np.zeros((2, 2, 2)), affine)


def test_new_values_must_fit(oblique: Volume) -> None:
    assert oblique.with_array(np.ones(oblique.shape)).same_grid(oblique)
    with pytest.raises(GeometryError, match="do not fit"):
        oblique.with_array(np.ones((7, 5, 9)))


def test_same_grid_looks_at_every_corner(oblique: Volume) -> None:
    turned = oblique.affine.copy()
    turned[:3, 2] *= 1.01
    assert not oblique.same_grid(Volume(oblique.array, turned))
    assert not oblique.same_grid(Volume(oblique.array[1:], oblique.affine))


def test_a_crop_stays_where_it_was(oblique: Volume) -> None:
    part = oblique.crop((1, 2, 3), (4, 6, 9))
    assert part.shape == (3, 4, 6)
    np.testing.assert_allclose(point(part, (0, 0, 0)), point(oblique, (1, 2, 3)))
    np.testing.assert_array_equal(part.array, oblique.array[1:4, 2:6, 3:9])


@given(axes=AXES, flips=FLIPS)
def test_reorienting_moves_no_voxel_in_the_patient(axes: tuple[int, int, int], flips: tuple[bool, bool, bool]) -> None:
    affine = np.array([[0, 0.1, 0.7, 3], [0, 0.8, -0.1, 4], [2.5, 0, 0, 5], [0, 0, 0, 1.0]])
    volume = Volume(np.arange(24.0).reshape(2, 3, 4), affine)
    turn = Reorientation(axes, flips)
    other = turn.apply(volume)
    for index in np.ndindex(other.shape):
        home = np.argwhere(volume.array == other.array[index])[0]
        np.testing.assert_allclose(point(other, index), point(volume, tuple(home)), atol=1e-9)
    np.testing.assert_array_equal(turn.undo(other.array), volume.array)


@given(axes=AXES, flips=FLIPS)
def test_canonical_axes_run_up_back_and_left(axes: tuple[int, int, int], flips: tuple[bool, bool, bool]) -> None:
    straight = Volume(
        np.zeros((2, 3, 4)), np.array([[0, 0.1, 0.7, 3], [0, 0.8, -0.1, 4], [2.5, 0, 0, 5], [0, 0, 0, 1.0]])
    )
    stored = Reorientation(axes, flips).apply(straight)
    upright = Reorientation.of(stored).apply(stored)
    assert upright.same_grid(straight)
    assert (np.diag(upright.affine[[2, 1, 0], :3]) > 0).all()


def test_undo_keeps_trailing_axes(oblique: Volume) -> None:
    turn = Reorientation.of(oblique)
    upright = turn.apply(oblique)
    stacked = np.stack([upright.array, -upright.array], axis=-1)
    np.testing.assert_array_equal(turn.undo(stacked)[..., 0], oblique.array)
