from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffseglung.platform.errors import GeometryError
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


def test_the_first_voxel_lies_at_its_distances_along_the_grids_own_axes(oblique: Volume) -> None:
    directions = oblique.affine[:3, :3] / oblique.spacing_mm
    np.testing.assert_allclose(directions @ oblique.first_mm, oblique.affine[:3, 3])
    moved = oblique.crop((1, 2, 3), (5, 7, 9)).first_mm - oblique.first_mm
    np.testing.assert_allclose(moved, np.multiply((1, 2, 3), oblique.spacing_mm))


@pytest.mark.parametrize("corner", list(np.ndindex(2, 2, 2)))
def test_a_grid_that_leaves_at_one_corner_alone_is_another(oblique: Volume, corner: tuple[int, int, int]) -> None:
    """Sheared about the opposite corner, so that this one moves most; a hundredth of a millimetre is let pass."""
    last = np.subtract(oblique.shape, 1)
    place, opposite = corner * last, (1 - np.array(corner)) * last
    for gap, same in ((0.0099, True), (0.0101, False)):
        other = oblique.affine.copy()
        other[0, :3] += gap * (place - opposite) / ((place - opposite) @ (place - opposite))
        other[0, 3] = oblique.affine[0, 3] - (other - oblique.affine)[0, :3] @ opposite
        assert oblique.same_grid(Volume(oblique.array, other)) == same


def test_axes_follow_directions_whatever_the_spacing() -> None:
    """The nearest permutation is that of largest cosines together."""
    for seed in range(60):
        directions = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
        orders = list(itertools.permutations(range(3)))
        best = max(orders, key=lambda axes: sum(abs(directions[2 - i, axes[i]]) for i in range(3)))
        for spacing in ((1, 1, 1), (5, 0.7, 0.7), (0.5, 4, 1)):
            affine = np.eye(4)
            affine[:3, :3] = directions * spacing
            assert Reorientation.of(Volume(np.zeros((2, 2, 2)), affine)).axes == best


def test_a_view_is_the_array_itself(oblique: Volume) -> None:
    turn = Reorientation((2, 0, 1), (True, False, True))
    values = np.zeros((2, 3, 4, 5))
    seen = turn.view(values)
    assert seen.shape == (4, 2, 3, 5)
    seen[0, 1, 2, 4] = 7
    assert values[1, 0, 3, 4] == 7
    assert np.shares_memory(turn.apply(oblique).array, oblique.array)


@pytest.mark.parametrize(("edge_mm", "usable"), [(1.1e-3, True), (0.9e-3, False)])
def test_voxels_of_less_than_a_micrometre_are_no_grid(edge_mm: float, usable: bool) -> None:
    affine = np.diag([edge_mm, edge_mm, edge_mm, 1.0])
    if usable:
        assert Volume(np.zeros((2, 2, 2)), affine).spacing_mm == pytest.approx((edge_mm,) * 3)
    else:
        with pytest.raises(GeometryError, match="singular"):
            Volume(np.zeros((2, 2, 2)), affine)
