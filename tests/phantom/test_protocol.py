"""Conditions: of drawn chests, and of scans that are there already."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from diffseglung.phantom.procedural import make_phantom
from diffseglung.phantom.protocol import CONDITIONS, rescan, scanner_for, tissue_noise_hu
from diffseglung.phantom.record import SPLITS, Draw, Phantom
from diffseglung.phantom.scanner import Scanner
from diffseglung.platform.config import PhantomConfig
from diffseglung.platform.errors import ConfigError
from diffseglung.volume import Volume

GIVEN = [c for c in CONDITIONS if c != "any"]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("seed", range(4))
def test_protocols_keep_the_promise_of_their_condition(split: str, seed: int) -> None:
    base = Scanner.random(Draw(seed, split), small=False)
    made = {c: scanner_for(base, c, Draw(seed, split)) for c in CONDITIONS}
    assert made["any"] == base
    assert 42 <= made["low_dose"].noise_hu <= 60
    assert made["low_dose"].slice_mm <= 2.5
    assert made["sharp"].sharpness >= 0.85
    assert made["thick"].slice_mm == 5.0
    for name in ("standard", "thick", "exhale"):
        assert made[name].noise_hu <= 35
    for name in GIVEN:
        assert made[name].in_plane_mm == base.in_plane_mm
        assert made[name].thickness_mm >= made[name].slice_mm
        assert made[name].blur_mm > 0.25


def test_one_seed_is_one_chest_with_the_same_lesions_in_every_condition() -> None:
    def case(condition: str) -> Phantom:
        models = ("ggo_geographic", "emphysema_panlobular")
        return make_phantom(PhantomConfig(seed=3, size="small", condition=condition, models=models))

    plain, low, thick, exhale = (case(c) for c in ("standard", "low_dose", "thick", "exhale"))
    assert plain.meta["lesions"] == low.meta["lesions"] == thick.meta["lesions"]
    assert thick.ct.spacing_mm[0] == 5.0
    assert not plain.meta["anatomy"]["exhale"]
    assert exhale.meta["anatomy"]["exhale"]
    healthy = [float(np.median(c.ct.array[c.truth.array == 1])) for c in (plain, low, exhale)]
    assert abs(healthy[1] - healthy[0]) < 15
    assert healthy[2] > healthy[0] + 50


def test_low_dose_brings_the_noise_to_the_drawn_figure(small: Phantom) -> None:
    """Noise adds in quadrature to what was there; neither grid, lungs nor truth change."""
    quiet = dataclasses.replace(small, ct=small.ct.with_array(np.clip(small.ct.array, -1024, 60)))
    made = rescan(quiet, "low_dose", seed=1, split="dev")
    wanted = made.meta["rescan"]["rescan_low_dose_noise_hu"]
    assert 45 <= wanted <= 60
    flat = (small.ct.array > -1000) & (small.lungs.array == 0)
    added = (made.ct.array - quiet.ct.array)[flat]
    before = tissue_noise_hu(quiet.ct.array)
    assert np.hypot(added.std(), before) == pytest.approx(wanted, rel=0.06)
    assert abs(added.mean()) < 1
    assert made.truth is quiet.truth


def test_the_noise_of_soft_tissue_is_measured() -> None:
    rng = np.random.default_rng(0)
    hu = np.full((6, 60, 60), 40.0, np.float32)
    hu[:, :, 30:] = -850
    hu += rng.normal(0, 12, hu.shape).astype(np.float32)
    assert tissue_noise_hu(hu) == pytest.approx(12, rel=0.05)
    assert np.isnan(tissue_noise_hu(np.full((3, 20, 20), -850, np.float32)))


def test_a_sharp_kernel_overshoots_edges() -> None:
    """Beside a step the profile leaves the range of the step; flat parts keep their level."""
    hu = np.full((4, 80, 80), -850.0, np.float32)
    hu[:, :, 40:] = 30
    ct = Volume(hu, np.array([[0, 0, 1, 0], [0, 1, 0, 0], [2, 0, 0, 0], [0, 0, 0, 1.0]]))
    ones = ct.with_array(np.ones(hu.shape, np.uint8))
    profile = rescan(Phantom(ct, ones, ones, {}), "sharp").ct.array.mean((0, 1))
    assert profile[:30].mean() == pytest.approx(-850, abs=3)
    assert profile[39] < -850 - 40
    assert profile[40] > 30 + 40


def test_thick_slices_average_and_labels_follow_the_majority(oblique_affine: np.ndarray) -> None:
    """Slices of 1 mm in blocks of five: means, majorities, and the same place in the patient."""
    affine = oblique_affine.copy()
    affine[:3, 0] /= np.linalg.norm(affine[:3, 0])
    rng = np.random.default_rng(0)
    hu = rng.integers(-900, 0, (20, 6, 7)).astype(np.float32)
    truth = np.ones(hu.shape, np.uint8)
    truth[10:13], truth[13:15] = 3, 5
    truth[15:18] = 0
    ct = Volume(hu, affine)
    lungs = ct.with_array((truth > 0).astype(np.uint8))
    made = rescan(Phantom(ct, lungs, ct.with_array(truth), {}), "thick")
    assert made.ct.spacing_mm == pytest.approx((5.0, 0.8, 0.7))
    assert made.ct.same_grid(made.truth)
    assert made.ct.same_grid(made.lungs)
    flip = slice(None, None, -1)  # the oblique grid runs from left to right in x; canonical axes do not
    np.testing.assert_allclose(made.ct.array[:, :, flip], np.rint(hu.reshape(4, 5, 6, 7).mean(1)), atol=1)
    assert made.truth.array[:, 0, 0].tolist() == [1, 1, 3, 0]
    assert made.lungs.array[:, 0, 0].tolist() == [1, 1, 1, 0]
    index = np.array([1.0, 2.0, 6 - 3.0, 1])
    np.testing.assert_allclose(made.ct.affine @ index, affine @ [7.0, 2.0, 3.0, 1], atol=1e-6)


def test_slices_that_are_thick_already_stay(small: Phantom) -> None:
    thick = rescan(small, "thick")
    again = rescan(thick, "thick")
    np.testing.assert_array_equal(thick.ct.array, again.ct.array)


@pytest.mark.parametrize("condition", ["low_dose", "sharp", "thick"])
def test_the_same_seed_gives_the_same_scan(small: Phantom, condition: str) -> None:
    first, second = (rescan(small, condition, seed=5) for _ in range(2))
    assert first.ct.array.tobytes() == second.ct.array.tobytes()
    assert (first.ct.array.shape != small.ct.array.shape) or (first.ct.array != small.ct.array).any()


def test_what_cannot_be_done_to_an_image_is_refused(small: Phantom) -> None:
    assert rescan(small, "standard") is small
    with pytest.raises(ConfigError, match="exhale"):
        rescan(small, "exhale")
    with pytest.raises(ConfigError, match="low_dose"):
        scanner_for(Scanner(), "quiet", Draw(0))
