import numpy as np
import pytest

from diffseglung.case.alignment import REFERENCE_HU
from diffseglung.case.prepared import axis_weights, lung_box, onto_window, prepare_scan
from diffseglung.platform.errors import InputError
from diffseglung.volume import Volume


def chest(affine: np.ndarray, shape: tuple[int, int, int] = (40, 60, 64)) -> tuple[Volume, Volume]:
    hu = np.full(shape, 40, np.float32)
    lungs = np.zeros(shape, np.uint8)
    lungs[6:-6, 10:-10, 8:28], lungs[6:-6, 10:-10, 36:-8] = 1, 2
    hu[lungs > 0] = -860 + np.random.default_rng(0).normal(0, 20, int((lungs > 0).sum()))
    return Volume(hu, affine), Volume(lungs, affine)


def test_lung_box_is_tight_plus_margin_and_stays_inside() -> None:
    mask = np.zeros((10, 12, 14), bool)
    mask[0, 5, 6] = mask[3, 7, 13] = True
    areas = [mask.sum(other) for other in ((1, 2), (0, 2), (0, 1))]
    assert lung_box(areas, (6.0, 3.0, 2.0), 6.0) == ((0, 3, 3), (5, 10, 14))


def test_a_field_linear_in_space_survives_the_way_to_the_model_grid_and_back(oblique_affine: np.ndarray) -> None:
    ct, lungs = chest(oblique_affine)
    prepared = prepare_scan(ct, lungs, 1.5)
    assert prepared.grid.spacing_mm == pytest.approx((1.5, 1.5, 1.5))
    z, y, x = np.meshgrid(*[np.arange(n) for n in prepared.grid.shape], indexing="ij")
    points = prepared.grid.affine @ np.stack([z, y, x, np.ones_like(z)]).reshape(4, -1)
    field = (points[0] + 2 * points[1] - points[2]).reshape(prepared.grid.shape).astype(np.float32)
    back = onto_window(prepared, field[None], slice(0, prepared.window.shape[0]))[0]
    z, y, x = np.meshgrid(*[np.arange(n) for n in prepared.window.shape], indexing="ij")
    points = prepared.window.affine @ np.stack([z, y, x, np.ones_like(z)]).reshape(4, -1)
    expected = (points[0] + 2 * points[1] - points[2]).reshape(prepared.window.shape)
    inner = (slice(2, -2),) * 3
    np.testing.assert_allclose(back[inner], expected[inner], atol=0.05)


def test_slabs_equal_the_whole(oblique_affine: np.ndarray) -> None:
    prepared = prepare_scan(*chest(oblique_affine), 2.0)
    values = np.random.default_rng(1).normal(size=(2, *prepared.grid.shape)).astype(np.float32)
    whole = onto_window(prepared, values, slice(0, prepared.window.shape[0]))
    np.testing.assert_array_equal(onto_window(prepared, values, slice(3, 9)), whole[:, 3:9])


def test_axis_weights_stop_at_the_grid() -> None:
    lower, weight = axis_weights(5, 1.0, 1.0, 2.0, 2)
    assert lower.tolist() == [0, 0, 0, 0, 0]
    assert weight == pytest.approx([0, 0, 0.5, 1, 1])


@pytest.mark.parametrize("voxels", [0, 50])
def test_lungs_too_small_to_measure_are_refused(oblique_affine: np.ndarray, voxels: int) -> None:
    ct, lungs = chest(oblique_affine)
    few = np.zeros_like(lungs.array)
    few[20, 20, 10 : 10 + voxels] = 1
    with pytest.raises(InputError, match="lung mask"):
        prepare_scan(ct, lungs.with_array(few), 1.5)


def test_lungs_that_are_filled_differently_are_both_aligned() -> None:
    ct, lungs = chest(np.diag([3.0, 3.0, 3.0, 1.0])[[2, 1, 0, 3]])
    ct = ct.with_array(ct.array + np.where(lungs.array == 2, 90, 0) - np.where(lungs.array == 1, 30, 0))
    prepared = prepare_scan(ct, lungs, 3.0)
    dark = prepared.lungs & (prepared.hu < -835)
    for lung in (dark, prepared.lungs & ~dark):
        assert np.median(prepared.aligned[lung]) == pytest.approx(REFERENCE_HU, abs=15)
    assert prepared.lung_levels is not None
    right, left = (lung.level_hu for lung in prepared.lung_levels)
    assert left - right == pytest.approx(120, abs=15)
