"""Closed forms of the scores."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from diffseglung.platform.errors import GeometryError
from diffseglung.volume import Volume
from studies.scores import (
    Distances,
    Surface,
    confusion,
    dice,
    distances_between,
    expected_calibration_error,
    hd95,
    pool,
    reliability,
    score_case,
    surface_dice,
    true_surfaces,
)


def cube(start: int, size: int = 10) -> np.ndarray:
    """A cube moved along z."""
    mask = np.zeros((40, 20, 20), bool)
    mask[start : start + size, 5 : 5 + size, 5 : 5 + size] = True
    return mask


def test_dice_of_shifted_cubes() -> None:
    """A shift by s of n planes leaves an overlap of (n - s) / n."""
    assert dice(cube(5), cube(5)) == 1
    assert dice(cube(5), cube(8)) == pytest.approx(0.7)
    assert dice(cube(5), cube(20)) == 0


def test_dice_of_an_absent_class_is_unknown() -> None:
    empty = np.zeros((40, 20, 20), bool)
    assert math.isnan(dice(empty, empty))
    assert dice(cube(5), empty) == 0


def surface_distances(a: np.ndarray, b: np.ndarray, spacing_mm: tuple[float, float, float]) -> Distances:
    return distances_between(Surface.of(a, spacing_mm), Surface.of(b, spacing_mm))


@pytest.mark.parametrize("shift", [1, 3])
@pytest.mark.parametrize("step", [1.0, 2.5])
def test_hd95_of_shifted_cubes_is_the_shift_in_mm(shift: int, step: float) -> None:
    """The two end planes hold more than 5 % of the surface; they lie one shift off."""
    distances = surface_distances(cube(5), cube(5 + shift), (step, 1.0, 1.0))
    assert hd95(distances) == pytest.approx(shift * step)


def test_surface_distance_is_symmetric() -> None:
    forth, back = surface_distances(cube(5), cube(9, 6), (1.0, 1.0, 1.0))
    back2, forth2 = surface_distances(cube(9, 6), cube(5), (1.0, 1.0, 1.0))
    np.testing.assert_array_equal(np.sort(forth), np.sort(forth2))
    np.testing.assert_array_equal(np.sort(back), np.sort(back2))


def test_surface_dice_of_shifted_cubes() -> None:
    """Within the tolerance all of it counts; a shift of 3 mm leaves the end planes' inner parts beyond 2 mm."""
    assert surface_dice(surface_distances(cube(5), cube(7), (1.0, 1.0, 1.0)), 2.0) == 1
    moved = surface_distances(cube(5), cube(8), (1.0, 1.0, 1.0))
    beyond = sum(int((d > 2.0).sum()) for d in moved)
    assert surface_dice(moved, 2.0) == pytest.approx(1 - beyond / sum(len(d) for d in moved))
    assert 0.5 < surface_dice(moved, 2.0) < 0.9


def test_surfaces_that_are_missing_have_no_distance() -> None:
    empty = np.zeros((40, 20, 20), bool)
    assert math.isnan(hd95(surface_distances(cube(5), empty, (1.0, 1.0, 1.0))))
    assert math.isnan(surface_dice(surface_distances(empty, empty, (1.0, 1.0, 1.0))))


def volume(labels: np.ndarray) -> Volume:
    """A label map at 2 x 1 x 1 mm."""
    affine = np.zeros((4, 4))
    affine[[2, 1, 0, 3], [0, 1, 2, 3]] = [2.0, 1.0, 1.0, 1.0]
    return Volume(labels.astype(np.uint8), affine)


def test_a_case_has_volumes_in_ml_and_unknowns() -> None:
    truth = np.ones((40, 20, 20))
    truth[cube(5)] = 3
    guess = np.ones((40, 20, 20))
    guess[cube(8)] = 3
    score = score_case(volume(guess), volume(truth))
    ggo = score["classes"]["ggo"]
    assert ggo["dice"] == pytest.approx(0.7)
    assert ggo["true_ml"] == pytest.approx(2.0)
    assert ggo["error_ml"] == 0
    assert ggo["hd95_mm"] == pytest.approx(6.0)
    assert math.isnan(score["classes"]["fibrosis"]["dice"])
    assert score["predicted_lesion_fraction"] == pytest.approx(1000 / 16000)
    assert not score["healthy_case"]


def test_a_class_in_one_map_only_has_dice_zero_and_no_distance() -> None:
    truth = np.ones((40, 20, 20))
    guess = truth.copy()
    guess[cube(5)] = 2
    row = score_case(volume(guess), volume(truth))["classes"]["emphysema"]
    assert row["dice"] == 0
    assert row["surface_dice_2mm"] == 0
    assert math.isnan(row["hd95_mm"])


def test_pooling_counts_voxels_of_all_cases_together() -> None:
    """A big good case and a small bad one: pooled Dice follows the voxels, the mean follows the cases."""
    big, small = np.ones((40, 20, 20)), np.ones((40, 20, 20))
    big[cube(5)] = 3
    small[5:7, 5:7, 5:7] = 3
    missed = np.ones((40, 20, 20))
    cases = [score_case(volume(big), volume(big)), score_case(volume(missed), volume(small))]
    ggo = pool(cases)["classes"]["ggo"]
    assert ggo["dice_mean"] == pytest.approx(0.5)
    assert ggo["dice_pooled"] == pytest.approx(2000 / 2008)
    assert ggo["error_ml_mean"] == pytest.approx(-0.008)


def test_false_lesions_are_counted_on_healthy_cases_only() -> None:
    truth = np.ones((40, 20, 20))
    guess = truth.copy()
    guess[:4] = 3
    ill = truth.copy()
    ill[:20] = 3
    cases = [
        score_case(volume(guess), volume(truth), surfaces=False),
        score_case(volume(ill), volume(ill), surfaces=False),
    ]
    pooled = pool(cases)
    assert pooled["healthy_cases"] == 1
    assert pooled["false_lesion_fraction"] == pytest.approx(0.1)
    assert math.isnan(pool(cases[1:])["false_lesion_fraction"])


def test_maps_on_different_grids_are_refused() -> None:
    with pytest.raises(GeometryError):
        score_case(volume(np.ones((4, 5, 6))), volume(np.ones((4, 5, 7))))


def test_calibration_error_of_known_posteriors() -> None:
    """Right every time at 0.8: off by 0.2. Right 80 % of the time: calibrated."""
    posterior = np.tile([0.8, 0.05, 0.05, 0.05, 0.05], (10, 1))

    def error(truth: np.ndarray) -> float:
        return float(expected_calibration_error(np.array(reliability(posterior[: len(truth)], truth)["bins"])))

    assert error(np.ones(10, int)) == pytest.approx(0.2)
    assert error(np.array([1] * 8 + [2] * 2)) == pytest.approx(0)
    assert math.isnan(error(np.ones(0, int)))


def test_brier_score_of_known_posteriors() -> None:
    """Sure and right 0, sure and wrong 2, uniform 1 - 1/5; sums add over parts."""
    sure, even = np.eye(5), np.full((5, 5), 0.2)
    truth = np.arange(1, 6)
    assert reliability(sure, truth)["brier"] == pytest.approx(0)
    assert reliability(sure, truth % 5 + 1)["brier"] == pytest.approx(2 * 5)
    assert reliability(even, truth)["brier"] == pytest.approx(0.8 * 5)
    mixed = np.random.default_rng(0).dirichlet(np.ones(5), 40)
    labels = np.random.default_rng(1).integers(1, 6, 40)
    whole, parts = reliability(mixed, labels), [reliability(mixed[s], labels[s]) for s in (slice(15), slice(15, 40))]
    np.testing.assert_allclose(whole["bins"], np.sum([part["bins"] for part in parts], axis=0))
    assert whole["brier"] == pytest.approx(sum(part["brier"] for part in parts))


def test_distances_are_those_of_a_distance_transform() -> None:
    """The plain definition: a transform of the whole volume, read at the other surface."""
    random = np.random.default_rng(0)
    a, b = (ndimage.gaussian_filter(random.standard_normal((20, 24, 28)), 2) > level for level in (0.02, 0.06))
    spacing = (2.0, 0.7, 0.8)
    whole = np.pad(a, 1), np.pad(b, 1)
    rims = [mask & ~ndimage.binary_erosion(mask) for mask in whole]
    wanted = [ndimage.distance_transform_edt(~rims[1 - i], spacing)[rims[i]] for i in (0, 1)]
    for found, plain in zip(surface_distances(a, b, spacing), wanted, strict=True):
        np.testing.assert_allclose(found, plain, atol=1e-9)


def test_surfaces_made_once_give_the_same_scores() -> None:
    random = np.random.default_rng(0)
    truth, guess = (volume(random.integers(0, 6, (6, 7, 8))) for _ in range(2))
    np.testing.assert_equal(score_case(guess, truth), score_case(guess, truth, known=true_surfaces(truth)))


def test_confusion_has_the_truth_in_its_rows() -> None:
    truth, guess = np.ones((2, 3, 4)), np.ones((2, 3, 4))
    truth[0, 0] = 3
    guess[0, 0, :3] = 5
    truth[1, 0, 0], guess[1, 0, 1] = 0, 6
    table = np.array(confusion(volume(guess), volume(truth)))
    assert table[2].tolist() == [1, 0, 0, 0, 3]
    assert table[0].tolist() == [18, 0, 0, 0, 0]
    assert table.sum() == 22
