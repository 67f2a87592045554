"""Where slices lie: tilt and uneven steps are resampled so that every voxel keeps its place in the patient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage
from scipy.interpolate import interp1d

from diffseglung.io import read_scan
from diffseglung.io.dicom.grid import Grid, fit, normal_of, resample
from diffseglung.platform.errors import GeometryError
from diffseglung.volume import Volume

MATRIX = (24, 28)
SPACING = (0.8, 0.7)
STEP = 2.5
TILTS = [(0.0, 12.0), (0.0, -12.0), (9.0, 0.0), (-9.0, 0.0), (8.0, -14.0), (-20.0, 20.0)]


def ramp(points: np.ndarray) -> np.ndarray:
    """HU that grow linearly through the patient (..., 3): linear interpolation must reproduce them exactly."""
    return points @ np.array([1.5, -2.25, 1.0]) - 300.0


def turned() -> np.ndarray:
    """Cosines of an oblique slice plane."""
    a, b = np.deg2rad(14), np.deg2rad(-9)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return (about_z @ about_x)[:, :2].T.ravel()


def stack(cosines: np.ndarray, heights: np.ndarray, tilt: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """First pixels (n, 3) and images (n, Y, X) of the ramp; tilt: degrees along rows and along columns."""
    across, down = cosines[:3], cosines[3:]
    drift = np.tan(np.deg2rad(tilt[0])) * across + np.tan(np.deg2rad(tilt[1])) * down
    positions = np.array([-8.0, 5.0, 20.0]) + heights[:, None] * (np.cross(across, down) + drift)
    rows, columns = np.indices(MATRIX)
    plane = rows[..., None] * down * SPACING[0] + columns[..., None] * across * SPACING[1]
    return positions, ramp(positions[:, None, None] + plane).astype(np.float32)


def truth(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The ramp at the voxel centres of a grid."""
    index = np.moveaxis(np.indices(shape), 0, -1)
    return ramp(index @ affine[:3, :3].T + affine[:3, 3])


@pytest.mark.parametrize("tilt", TILTS)
@pytest.mark.parametrize("oblique", [False, True])
def test_tilted_object_is_put_where_it_is(tilt: tuple[float, float], oblique: bool) -> None:
    cosines = turned() if oblique else np.array([1.0, 0, 0, 0, 1, 0])
    heights = np.arange(12) * STEP
    positions, images = stack(cosines, heights, tilt)
    grid = fit(positions, cosines, SPACING, MATRIX, "x")
    assert grid.resampled
    assert "gantry tilt" in grid.notes[0]
    axes = grid.affine[:3, :3] / np.linalg.norm(grid.affine[:3, :3], axis=0)
    assert np.allclose(axes.T @ axes, np.eye(3), atol=1e-9)
    assert np.allclose(np.linalg.norm(grid.affine[:3, :3], axis=0), (STEP, *SPACING))
    found, wanted = resample(images, grid), truth(grid.affine, grid.shape)
    inside = found > -1000
    assert inside.sum() >= 12 * (MATRIX[0] - 2) * (MATRIX[1] - 2)
    # at the rim a pixel is mixed with the -1024 HU outside; elsewhere the ramp is met
    close = np.abs(found - wanted) < 0.01
    assert close.sum() >= 12 * (MATRIX[0] - 1) * (MATRIX[1] - 1)
    first = found[0][np.abs(found[0] + 1024) > 1]
    assert first.size == MATRIX[0] * MATRIX[1]  # the first slice is moved by whole pixels: nothing of it is lost


def test_uneven_steps_are_evened_where_they_lie() -> None:
    cosines = turned()
    heights = np.array([0, 2.4, 4.9, 7.7, 10.0, 12.6, 15.0, 17.3, 20.0])
    positions, images = stack(cosines, heights, (0, 0))
    grid = fit(positions, cosines, SPACING, MATRIX, "x")
    assert grid.notes[0].startswith("slice distances run from 2.30 to 2.80 mm")
    assert np.allclose(resample(images, grid), truth(grid.affine, grid.shape), atol=0.01)


def test_tilt_and_uneven_steps_together() -> None:
    cosines = turned()
    positions, images = stack(cosines, np.array([0, 2.4, 4.9, 7.7, 10.0, 12.6, 15.0, 17.3, 20.0]), (0, 10))
    grid = fit(positions, cosines, SPACING, MATRIX, "x")
    assert len(grid.notes) == 2
    found, wanted = resample(images, grid), truth(grid.affine, grid.shape)
    assert (np.abs(found - wanted) < 0.01).sum() >= 9 * (MATRIX[0] - 2) * (MATRIX[1] - 1) - 9 * MATRIX[1]


@pytest.mark.parametrize("oblique", [False, True])
def test_upright_stack_is_left_alone(oblique: bool) -> None:
    cosines = turned() if oblique else np.array([1.0, 0, 0, 0, 1, 0])
    positions, images = stack(cosines, np.arange(9) * STEP, (0, 0))
    grid = fit(positions, cosines, SPACING, MATRIX, "x")
    assert not grid.resampled
    assert grid.shape == images.shape
    assert np.allclose(truth(grid.affine, grid.shape), images, atol=1e-3)


def test_limits_of_tilt() -> None:
    cosines = np.array([1.0, 0, 0, 0, 1, 0])
    heights = np.arange(9) * STEP
    for degrees, resampled in ((0.5, False), (2.0, True), (29.9, True)):
        assert fit(stack(cosines, heights, (0, degrees))[0], cosines, SPACING, MATRIX, "x").resampled == resampled
    with pytest.raises(GeometryError, match=r"sheared by 31\.0 degrees"):
        fit(stack(cosines, heights, (0, 31.0))[0], cosines, SPACING, MATRIX, "x")


@pytest.mark.parametrize("share", [0.2, -0.2])
def test_limit_of_uneven_steps(share: float) -> None:
    cosines = np.array([1.0, 0, 0, 0, 1, 0])
    heights = np.arange(9) * STEP
    heights[4:] += share * STEP
    assert fit(stack(cosines, heights, (0, 0))[0], cosines, SPACING, MATRIX, "x").resampled
    heights[4:] += share * STEP / 2
    with pytest.raises(GeometryError, match="uneven slice distances"):
        fit(stack(cosines, heights, (0, 0))[0], cosines, SPACING, MATRIX, "x")


def test_normal_must_be_one() -> None:
    assert np.allclose(normal_of(np.array([0.0, 1, 0, 0, 0, -1]), "x"), (-1, 0, 0))
    for bad in ([1, 0, 0, 1, 0, 0], [1, 0, 0, 0, np.nan, 0], [1, 0, 0, 0, 1.1, 0]):
        with pytest.raises(GeometryError, match="x has no valid ImageOrientationPatient"):
            normal_of(np.array(bad, float), "x")


def test_tilted_series_is_read_at_its_place(tmp_path: Path, upright: Volume, write_series: Any) -> None:
    """A dense ball in a tilted scan of a chest: its centre is found where it was put."""
    degrees, centre = 17.0, np.array([-2.0, 28.0, 44.0])

    def edit(dataset: Any, k: int) -> None:
        x, y, z = (float(v) for v in dataset.ImagePositionPatient)
        y -= 2.5 * k * np.tan(np.deg2rad(degrees))
        dataset.ImagePositionPatient = [x, f"{y:.6f}", z]
        rows, columns = np.indices((20, 24))
        gap = np.hypot(x + 0.7 * columns - centre[0], y + 0.8 * rows - centre[1]), z - centre[2]
        stored = np.frombuffer(dataset.PixelData, "<i2").reshape(20, 24).copy()
        stored[np.hypot(*gap) < 4.0] = 2024
        dataset.PixelData = stored.tobytes()

    write_series(tmp_path, upright, edit=edit)
    scan = read_scan(tmp_path)
    assert scan.source["grid"] == "resampled"
    assert scan.frames == ()
    assert any("17.0 degrees" in note and "not the original ones" in note for note in scan.notes)
    ball = np.argwhere(scan.volume.array > 600)
    weights = scan.volume.array[tuple(ball.T)]
    found = scan.volume.affine[:3, :3] @ np.average(ball, axis=0, weights=weights) + scan.volume.affine[:3, 3]
    assert np.linalg.norm(found - centre) < 0.5
    assert scan.volume.array.min() == -1024


AXIAL = np.array([1.0, 0, 0, 0, 1, 0])


@pytest.mark.parametrize("heights", [[0, 2.4, 4.9, 7.7, 10.0], [0, 2.7, 5.1, 7.2, 10.0], [0, 2.5, 5.0, 7.5, 10.0]])
def test_between_slices_values_are_linear_and_slices_at_their_place_stay(heights: list[float]) -> None:
    """SciPy's interpolation along the heights; at the ends the first and the last slice, as they are."""
    images = np.random.default_rng(0).uniform(-1000, 400, (5, *MATRIX)).astype(np.float32)
    positions = np.array([3, 4, 5]) + np.outer(heights, [0, 0, 1.0])
    found = resample(images, fit(positions, AXIAL, SPACING, MATRIX, "x"))
    wanted = interp1d(heights, images, axis=0)(np.arange(5) * 2.5)
    np.testing.assert_allclose(found, wanted, atol=1e-3)
    np.testing.assert_array_equal(found[[0, -1]], images[[0, -1]])


def test_a_shifted_slice_is_scipys_shift() -> None:
    """By whole pixels and by parts, onto a larger matrix; what was below -1024 HU is padding."""
    images = np.random.default_rng(0).uniform(-1000, 400, (4, 6, 7)).astype(np.float32)
    images[0, 2, 3] = -2000
    shifts = np.array([[0, 0], [1, 0.25], [0.5, 2], [2.75, 1.5]])
    grid = Grid(np.eye(4), (4, 9, 10), shifts, np.arange(4.0), ("shifted",))
    for found, image, shift in zip(resample(images, grid), images, shifts, strict=True):
        padded = np.pad(np.maximum(image, -1024), ((0, 3), (0, 3)), constant_values=-1024)
        wanted = ndimage.shift(padded, shift, order=1, mode="grid-constant", cval=-1024)
        np.testing.assert_allclose(found, wanted, atol=1e-2)


@pytest.mark.parametrize(("step", "stacked"), [(0.3, True), (0.02, True), (0.009, False)])
def test_slices_lie_one_behind_the_other_from_a_hundredth_of_a_millimetre_on(step: float, stacked: bool) -> None:
    positions = stack(AXIAL, np.arange(9) * step, (0, 0))[0]
    if stacked:
        assert fit(positions, AXIAL, SPACING, MATRIX, "x").affine[2, 0] == pytest.approx(step)
    else:
        with pytest.raises(GeometryError, match="mixed series"):
            fit(positions, AXIAL, SPACING, MATRIX, "x")


@pytest.mark.parametrize(("gap", "one"), [(0.49, True), (0.51, False)])
def test_half_a_millimetre_off_the_line_is_another_stack(gap: float, one: bool) -> None:
    positions = stack(AXIAL, np.arange(9) * STEP, (0, 0))[0]
    positions[4, 0] += gap
    if one:
        assert not fit(positions, AXIAL, SPACING, MATRIX, "x").resampled
    else:
        with pytest.raises(GeometryError, match="mixed series"):
            fit(positions, AXIAL, SPACING, MATRIX, "x")


@pytest.mark.parametrize(
    ("step", "gap", "even"), [(2.5, 0.12, True), (2.5, 0.13, False), (0.5, 0.049, True), (0.5, 0.051, False)]
)
def test_slices_near_even_places_count_as_even(step: float, gap: float, even: bool) -> None:
    """Within a twentieth of a step, and within 0.05 mm where that is more: then they are the grid."""
    heights = np.arange(9) * step
    heights[4] += gap
    grid = fit(stack(AXIAL, heights, (0, 0))[0], AXIAL, SPACING, MATRIX, "x")
    assert grid.resampled != even
    assert (grid.heights == np.arange(9)).all() == even


@pytest.mark.parametrize(("pixels", "resampled"), [(0.49, False), (0.51, True)])
@pytest.mark.parametrize("axis", [0, 1])
def test_half_a_pixel_over_the_whole_stack_is_upright(pixels: float, resampled: bool, axis: int) -> None:
    positions = stack(AXIAL, np.arange(9) * STEP, (0, 0))[0]
    positions[:, 1 - axis] += np.linspace(0, pixels * SPACING[axis], 9)
    grid = fit(positions, AXIAL, SPACING, MATRIX, "x")
    assert grid.resampled == resampled
    larger = [0, 0]
    larger[axis] = int(resampled)
    assert grid.shape == (9, MATRIX[0] + larger[0], MATRIX[1] + larger[1])


@pytest.mark.parametrize(
    ("lacking", "told"),
    [
        ((3,), "x lacks 1 of its slices: none at position 27.5 mm along"),
        ((3, 4), "x lacks 2 of its slices: none at position 27.5 mm, 30.0 mm along"),
        ((1, 2, 4, 7), "x lacks 4 of its slices: none at position 22.5 mm, 25.0 mm, 30.0 mm and others along"),
    ],
)
def test_missing_slices_are_told_and_never_made_up(lacking: tuple[int, ...], told: str) -> None:
    kept = [i for i in range(14) if i not in lacking]
    positions = stack(AXIAL, np.arange(14) * STEP, (0, 0))[0][kept]
    with pytest.raises(GeometryError) as caught:
        fit(positions, AXIAL, SPACING, MATRIX, "x")
    assert told in caught.value.problem


def test_a_step_of_a_quarter_more_is_interpolated_and_beyond_told_by_its_place() -> None:
    heights = np.arange(9) * 4.0
    heights[6:] += 0.99
    assert fit(stack(AXIAL, heights, (0, 0))[0], AXIAL, SPACING, MATRIX, "x").resampled
    heights[6:] += 0.02
    with pytest.raises(GeometryError, match=r"5\.01 mm after slice 6 along the slice normal, 4\.00 elsewhere"):
        fit(stack(AXIAL, heights, (0, 0))[0], AXIAL, SPACING, MATRIX, "x")


@pytest.mark.parametrize(("row", "column"), [((1.009, 0, 0), (0, 1, 0)), ((1, 0, 0), (0.0049, 1, 0))])
def test_rounded_cosines_have_a_unit_normal(row: tuple[float, ...], column: tuple[float, ...]) -> None:
    assert normal_of(np.array([*row, *column]), "x") == pytest.approx((0, 0, 1))
    for bad in ((1.011, 0, 0, 0, 1, 0), (1, 0, 0, 0, 0.989, 0), (1, 0, 0, 0.0051, 1, 0), (1, 0, 0, -0.0051, 1, 0)):
        with pytest.raises(GeometryError, match="ImageOrientationPatient"):
            normal_of(np.array(bad, float), "x")


@pytest.mark.parametrize(
    "steps",
    [
        [2.5] * 12 + [5.0] * 10,
        [5.0] * 10 + [2.5] * 12,
        [1.0, 4.0] * 9 + [1.0],
        [1.0] * 20 + [2.5] * 3,
        [2.0] * 12 + [3.4],
        [5.0] * 12 + [1.0] * 4 + [10.0],
    ],
)
def test_mixed_steps_are_no_missing_slices(steps: list[float]) -> None:
    along = np.concatenate([[0.0], np.cumsum(steps)])
    positions = np.column_stack([np.zeros_like(along), np.zeros_like(along), along])
    with pytest.raises(GeometryError, match="uneven slice distances"):
        fit(positions, np.array([1.0, 0, 0, 0, 1, 0]), (0.8, 0.8), (20, 20), "x")
