import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffseglung.case.positions import positions
from diffseglung.tissue.local import (
    NAMES,
    Neighbourhoods,
    ball,
    from_own_healthy,
    local_descriptors,
    masked_quantiles,
    own_healthy,
)

COLUMN = {name: i for i, name in enumerate(NAMES)}


def test_neighbourhoods_read_the_right_voxels_and_nan_beyond_the_edge() -> None:
    volume = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    offsets = np.array([[0, 0, 0], [1, 0, 0], [0, -1, 0], [0, 0, 1]])
    values = Neighbourhoods(volume, offsets).at(np.array([[1, 2, 3], [2, 0, 4]]))
    np.testing.assert_array_equal(values[0], [volume[1, 2, 3], volume[2, 2, 3], volume[1, 1, 3], volume[1, 2, 4]])
    np.testing.assert_array_equal(np.isnan(values[1]), [False, True, True, True])


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-1000, 400, width=32), min_size=1, max_size=30), st.integers(0, 5))
def test_masked_quantiles_are_nearest_rank_over_finite_values(values: list[float], missing: int) -> None:
    row = np.array([*values, *[np.nan] * missing], np.float32)
    found = masked_quantiles(row[None], (0.0, 0.5, 1.0))[0]
    ordered = np.sort(np.array(values, np.float32))
    np.testing.assert_array_equal(found, ordered[[0, round(0.5 * (len(values) - 1)), -1]])


def test_every_lung_voxel_lies_in_a_cell_and_rows_scatter_to_their_place() -> None:
    lungs = np.zeros((7, 9, 5), bool)
    lungs[1, 2, 3] = lungs[6, 8, 4] = True
    where = positions(lungs, 2)
    assert where.shape == (4, 5, 3)
    volume = where.scatter(np.array([[1.0], [2.0]], np.float32))
    assert volume[0, 0, 1, 1] == 1.0
    assert volume[0, 3, 4, 2] == 2.0
    assert (volume != 0).sum() == 2


def lung_block() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    hu = np.full((40, 40, 40), 50.0, np.float32)
    lungs = np.zeros(hu.shape, bool)
    lungs[4:-4, 4:-4, 4:-4] = True
    hu[lungs] = -860 + random.normal(0, 20, lungs.sum())
    return hu, lungs


def test_the_chest_wall_and_a_vessel_do_not_move_the_lower_quartile() -> None:
    hu, lungs = lung_block()
    with_vessel = hu.copy()
    with_vessel[:, 18:21, 18:21] = np.where(lungs[:, 18:21, 18:21], 30.0, hu[:, 18:21, 18:21])
    where = positions(lungs)
    plain = local_descriptors(hu, lungs, 1.5, where)
    vessel = local_descriptors(with_vessel, lungs, 1.5, where)
    assert abs(plain[:, COLUMN["near_q25"]] + 873).max() < 25
    beside = (abs(where.voxel[:, 1] - 19) > 3) | (abs(where.voxel[:, 2] - 19) > 3)
    assert abs(vessel[beside, COLUMN["near_q25"]] - plain[beside, COLUMN["near_q25"]]).max() < 25
    assert vessel[:, COLUMN["tube_1"]].max() > 5 * plain[:, COLUMN["tube_1"]].max()


def test_no_descriptor_is_ever_missing_even_for_a_lung_of_single_voxels() -> None:
    lungs = np.zeros((20, 20, 20), bool)
    lungs[::4, ::4, ::4] = True
    rows = local_descriptors(np.full(lungs.shape, -860, np.float32), lungs, 1.5, positions(lungs))
    assert np.isfinite(rows).all()


def test_a_ball_is_symmetric() -> None:
    offsets = ball(3.3)
    assert sorted(map(tuple, offsets.tolist())) == sorted(map(tuple, (-offsets).tolist()))


def scan_rows(median_hu: np.ndarray) -> np.ndarray:
    rows = np.zeros((len(median_hu), len(NAMES)), np.float32)
    for name, below in (("near_q25", 20.0), ("far_q25", 25.0), ("near_q50", 0.0)):
        rows[:, NAMES.index(name)] = median_hu - below
    rows[:, NAMES.index("far_dark_blob")] = 0.2
    return rows


@pytest.mark.parametrize("share", [0.9, 0.3, 0.05])
def test_own_healthy_lung_is_found_beside_disease(share: float) -> None:
    median = np.where(np.arange(2000) < 2000 * share, -860.0, -500.0)
    own = own_healthy(scan_rows(median))
    assert own[NAMES.index("near_q25")] == pytest.approx(-880)
    distance = from_own_healthy(scan_rows(median))
    assert np.abs(distance[: int(2000 * share)]).max() < 1e-3


def test_a_scan_without_healthy_lung_has_no_emphysema_for_that() -> None:
    own = own_healthy(scan_rows(np.full(2000, -500.0)))
    assert own[NAMES.index("near_q25")] == -860
    assert from_own_healthy(scan_rows(np.full(2000, -500.0)))[:, 0].min() > 0
