from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffseglung.case.resample import coarsened, covers_same_box, lattice, resample, resample_onto
from diffseglung.platform.errors import ConfigError, GeometryError
from diffseglung.volume import Reorientation, Volume


def field(grid: Volume, weights: tuple[float, float, float] = (1.0, 2.0, -1.0)) -> np.ndarray:
    """A ramp in patient space on the voxels of `grid`."""
    index = np.indices(grid.shape).reshape(3, -1)
    points = (grid.affine @ np.vstack([index, np.ones(index.shape[1])]))[:3]
    return (np.asarray(weights) @ points).reshape(grid.shape).astype(np.float32)


def blank(affine: np.ndarray, shape: tuple[int, int, int]) -> Volume:
    return Volume(np.zeros(shape, np.float32), affine)


def inside(values: np.ndarray, margin: int) -> np.ndarray:
    return values[margin:-margin, margin:-margin, margin:-margin]


def test_a_ramp_in_the_patient_is_the_same_ramp_on_an_oblique_grid(oblique_affine: np.ndarray) -> None:
    straight = blank(np.diag([1.0, 1.0, 1.0, 1.0])[[2, 1, 0, 3]], (40, 50, 60))
    ramp = straight.with_array(field(straight))
    oblique = oblique_affine.copy()
    oblique[:3, 3] += straight.affine[:3, :3] @ (20, 25, 30) - oblique_affine[:3] @ (4, 6, 7, 1)
    grid = blank(oblique, (9, 13, 15))
    np.testing.assert_allclose(resample_onto(ramp, grid).array, field(grid), atol=1e-3)


@pytest.mark.parametrize("spacing", [0.6, 1.5, (3.0, 1.0, 2.2)])
def test_resampling_keeps_ramp_place_and_extent(
    oblique_affine: np.ndarray, spacing: float | tuple[float, float, float]
) -> None:
    volume = blank(oblique_affine, (30, 60, 64))
    out = resample(volume.with_array(field(volume)), spacing)
    assert out.array.dtype == np.float32
    assert out.spacing_mm == pytest.approx(tuple(np.broadcast_to(spacing, 3)))
    before = np.multiply(volume.shape, volume.spacing_mm)
    grown = np.multiply(out.shape, out.spacing_mm) - before
    assert (grown >= -0.02 * np.asarray(out.spacing_mm)).all()
    assert (grown < out.spacing_mm).all()
    np.testing.assert_allclose(inside(out.array, 5), inside(field(out), 5), atol=2e-2)
    assert np.isfinite(out.array).all()


def test_there_and_back_keeps_a_smooth_field(oblique_affine: np.ndarray) -> None:
    volume = blank(oblique_affine, (40, 70, 80))
    smooth = volume.with_array(100 * np.sin(field(volume) / 25).astype(np.float32))
    back = resample_onto(resample(smooth, 1.5), smooth)
    assert back.same_grid(smooth)
    assert np.isfinite(back.array).all()
    assert np.abs(inside(back.array - smooth.array, 4)).max() < 4.0


def test_there_and_back_keeps_labels(oblique_affine: np.ndarray) -> None:
    volume = blank(oblique_affine, (20, 40, 40))
    labels = volume.with_array((field(volume) > field(volume).mean()).astype(np.uint8) * 5)
    back = resample_onto(resample(labels, 0.6, order=0), labels, order=0)
    assert back.array.dtype == np.uint8
    assert (back.array == labels.array).mean() > 0.99


def test_coarsening_averages_noise_away_instead_of_picking_it(oblique_affine: np.ndarray) -> None:
    noise = np.random.default_rng(0).normal(0, 100, (40, 80, 80)).astype(np.float32)
    coarse = resample(Volume(noise, oblique_affine), (2.5, 3.2, 2.8))
    assert coarse.array.std() < 40


@given(axes=st.permutations([0, 1, 2]), flips=st.tuples(st.booleans(), st.booleans(), st.booleans()))
@settings(max_examples=15, deadline=None)
def test_flipped_and_permuted_storage_is_undone_exactly(axes: list[int], flips: tuple[bool, bool, bool]) -> None:
    affine = np.array([[0, 0, 0.7, 3], [0, 0.8, 0, 4], [2.5, 0, 0, 5], [0, 0, 0, 1.0]])
    volume = Volume(np.random.default_rng(0).integers(0, 100, (5, 6, 7)).astype(np.int16), affine)
    turned = Reorientation((axes[0], axes[1], axes[2]), flips).apply(volume)
    assert covers_same_box(turned, volume)
    np.testing.assert_array_equal(resample_onto(turned, volume, order=0).array, volume.array)
    np.testing.assert_allclose(resample_onto(turned, volume).array, volume.array, atol=1e-3)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int16, np.int32, np.int64])
def test_labels_keep_their_type(dtype: type, oblique_affine: np.ndarray) -> None:
    labels = Volume(np.ones((4, 5, 6), dtype), oblique_affine)
    out = resample(labels, 0.5, order=0)
    assert out.array.dtype == dtype
    assert (out.array == 1).all()


def test_outside_the_volume_is_unknown_for_values_and_zero_for_labels(oblique: Volume) -> None:
    affine = oblique.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ (10, 0, 0)
    wide = Volume(np.zeros((25, 7, 9), np.float32), affine)
    assert np.isnan(resample_onto(oblique, wide).array[0]).all()
    assert (resample_onto(oblique.with_array(np.ones(oblique.shape, np.uint8)), wide, order=0).array[0] == 0).all()
    assert (resample_onto(oblique, wide, fill=-1024.0).array[0] == -1024).all()


def test_grids_apart_are_refused(oblique: Volume) -> None:
    far = oblique.affine.copy()
    far[:3, 3] += 1000
    with pytest.raises(GeometryError, match="overlap"):
        resample_onto(oblique, Volume(oblique.array, far))


@pytest.mark.parametrize("spacing", [0.0, -1.0, float("nan")])
def test_a_spacing_that_is_no_length_is_refused(spacing: float, oblique: Volume) -> None:
    with pytest.raises(ConfigError, match="spacing"):
        resample(oblique, spacing)


def test_an_unknown_order_is_refused(oblique: Volume) -> None:
    with pytest.raises(ConfigError, match="order"):
        resample_onto(oblique, oblique, order=2)


def test_the_lattice_lies_at_fixed_places_of_the_patient(oblique_affine: np.ndarray) -> None:
    ct = Volume(np.zeros((12, 30, 40), np.float32), oblique_affine)
    whole = lattice(ct, 1.5, 4)
    index = (whole.first_mm - 0.75) / (4 * 1.5)
    np.testing.assert_allclose(index, np.rint(index), atol=1e-9)
    part = ct.crop((3, 5, 7), (12, 28, 39))
    finer = Volume(np.zeros((24, 60, 80), np.float32), oblique_affine @ np.diag([0.5, 0.5, 0.5, 1.0]))
    for other in (lattice(part, 1.5, 4), lattice(finer, 1.5, 4)):
        shift = np.linalg.solve(whole.affine, other.affine)[:3, 3]
        np.testing.assert_allclose(shift, 4 * np.rint(shift / 4), atol=1e-6)


def test_the_lattice_covers_the_volume_and_little_more(oblique_affine: np.ndarray) -> None:
    ct = Volume(np.zeros((12, 30, 40), np.float32), oblique_affine)
    grid = lattice(ct, 1.5, 4)
    spacing, shape = np.array(ct.spacing_mm), np.array(ct.shape)
    low, high = ct.first_mm - spacing / 2, ct.first_mm + (shape - 0.5) * spacing
    start, stop = grid.first_mm - 0.75, grid.first_mm + (np.array(grid.shape) - 0.5) * 1.5
    assert (start <= low + 1e-6).all()
    assert (low - start < 6.0).all()
    assert (stop >= high - 0.02).all()
    assert (stop - high < 1.5).all()


def test_beyond_its_faces_a_volume_goes_on_as_it_ends(oblique_affine: np.ndarray) -> None:
    hu = np.random.default_rng(0).uniform(-900, 100, (12, 30, 40)).astype(np.float32)
    ct = Volume(hu, oblique_affine)
    fine = coarsened(ct, lattice(ct, 1.5, 12))
    assert np.isfinite(fine.array).all()
    bordered = Volume(np.pad(hu, 9, mode="edge"), oblique_affine.copy())
    bordered.affine[:3, 3] -= bordered.affine[:3, :3] @ [9, 9, 9]
    np.testing.assert_allclose(coarsened(bordered, fine).array, fine.array, atol=0.05)


@pytest.mark.parametrize("thick", [1, 7])
def test_slabs_leave_no_trace(thick: int, oblique_affine: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few slices at a time, or one: the volume with a wide border, resampled at once."""
    hu = np.random.default_rng(1).uniform(-900, 100, (21, 17, 19)).astype(np.float32)
    ct = Volume(hu, oblique_affine)
    wide = Volume(np.pad(hu, 24, mode="edge"), oblique_affine.copy())
    wide.affine[:3, 3] -= wide.affine[:3, :3] @ [24, 24, 24]
    for spacing in (1.5, 4.0):
        grid = lattice(ct, spacing, 4)
        step = spacing / 2.5
        monkeypatch.setattr("diffseglung.case.resample.SLAB_MIB", (thick + 0.5) * 17 * 19 * 4 * step / 2**20)
        found = coarsened(ct, grid).array
        np.testing.assert_allclose(found, resample_onto(wide, grid).array, atol=0.05)
        np.testing.assert_allclose(coarsened(ct, grid, lambda v: 2 * v + 1).array, 2 * found + 1, rtol=1e-4, atol=0.1)


def test_coarsening_raises_a_parabola_by_the_variance_of_its_kernel() -> None:
    """(2^2 - 1) / (8 ln 2) of the Gaussian, and 1/4 for the place midway between two voxels."""
    x = np.arange(40.0) - 19.5
    parabola = Volume(np.broadcast_to(x**2, (6, 6, 40)).astype(np.float32), np.diag([1.0, 1, 1, 1])[[2, 1, 0, 3]])
    coarse = resample(parabola, (1.0, 1.0, 2.0))
    assert coarse.shape == (6, 6, 20)
    rise = inside(coarse.array - (2 * np.arange(20.0) - 19) ** 2, 2)[:, :, 4:-4]
    np.testing.assert_allclose(rise, 3 / (8 * np.log(2)) + 0.25, atol=0.01)


def test_cubic_interpolation_keeps_a_parabola_and_linear_cuts_its_corners() -> None:
    x = np.arange(24.0) - 11.5
    parabola = Volume(np.broadcast_to(x**2, (5, 5, 24)).astype(np.float32), np.eye(4)[[2, 1, 0, 3]])
    for order, gap in ((1, 0.25), (3, 0.0)):
        fine = resample(parabola, (1.0, 1.0, 0.5), order=order)
        rise = fine.array[2, 2, 16:32] - (0.5 * np.arange(48.0) - 11.75)[16:32] ** 2
        np.testing.assert_allclose(rise, 0.75 * gap, atol=0.01)  # a quarter of the way between voxels


@pytest.mark.parametrize("order", [0, 1])
def test_half_precision_is_resampled_as_single(order: int, oblique: Volume) -> None:
    half = oblique.with_array(oblique.array.astype(np.float16))
    found, wanted = (resample(half.with_array(half.array.astype(kind)), 1.1, order=order) for kind in ("f2", "f4"))
    assert found.array.dtype == (np.float16 if order == 0 else np.float32)
    np.testing.assert_array_equal(found.array, wanted.array)


@pytest.mark.parametrize(("spacing", "count"), [(1.5, 20), (1.4999, 20), (1.48, 21), (40.0, 1), (30.0, 1)])
def test_a_grid_has_as_many_voxels_as_cover_the_extent_but_for_a_hundredth(spacing: float, count: int) -> None:
    volume = blank(np.eye(4)[[2, 1, 0, 3]], (30, 30, 30))
    grid = resample(volume, spacing)
    assert grid.shape == (count,) * 3
    middle = grid.affine @ [*((n - 1) / 2 for n in grid.shape), 1]
    np.testing.assert_allclose(middle[:3], [14.5] * 3)


def test_rounding_at_a_face_adds_no_block_to_the_lattice() -> None:
    for rounding in (-1e-8, 0.0, 1e-8):
        affine = np.eye(4)[[2, 1, 0, 3]]
        affine[:3, 3] = 12 + 0.5 + rounding
        grid = lattice(blank(affine, (6, 6, 6)), 1.5, 4)
        assert grid.shape == (4, 4, 4)
        np.testing.assert_allclose(grid.first_mm, 12.75)


def test_one_box_is_told_from_a_larger_and_a_shifted_one(oblique: Volume) -> None:
    """To a tenth of the finest voxel (0.07 mm)."""
    assert covers_same_box(resample(oblique, (2.5 / 3, 0.2, 0.7)), oblique)
    larger = oblique.affine.copy()
    larger[:3, 3] -= larger[:3, :3] @ [0, 0, 1]
    assert not covers_same_box(Volume(np.zeros((5, 7, 10)), larger), oblique)
    for gap, same in ((0.06, True), (0.08, False)):
        shifted = oblique.affine.copy()
        shifted[1, 3] += gap
        assert covers_same_box(Volume(oblique.array, shifted), oblique) == same


def test_grids_that_touch_overlap_and_a_millimetre_on_they_do_not(oblique: Volume) -> None:
    for axis in range(3):
        for side in (-1, 1):
            for gap_mm, apart in ((-0.01, False), (1.0, True)):
                away = np.zeros(3)
                away[axis] = side * (oblique.shape[axis] + gap_mm / oblique.spacing_mm[axis])
                moved = oblique.affine.copy()
                moved[:3, 3] += moved[:3, :3] @ away
                if apart:
                    with pytest.raises(GeometryError, match="overlap"):
                        resample_onto(oblique, Volume(oblique.array, moved))
                else:
                    assert resample_onto(oblique, Volume(oblique.array, moved)).shape == oblique.shape
