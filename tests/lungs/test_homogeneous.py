"""Even tissue that reads as water is fluid; a patch drawn through an organ is a part of it; airless lung is neither."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from diffseglung.lungs.coarse import Coarse
from diffseglung.lungs.homogeneous import organ_parts, outer_fat, pleural_fluid

SHAPE, MM = (40, 40, 40), 2.0


def _ball(radius_mm: float) -> np.ndarray:
    place = (np.indices(SHAPE) - (np.array(SHAPE)[:, None, None, None] - 1) / 2) * MM
    return (place**2).sum(0) < radius_mm**2


def _fluid(hu: np.ndarray, tissue: np.ndarray) -> np.ndarray:
    return pleural_fluid(Coarse(hu.astype(np.float32), (MM, MM, MM), (1, 1, 1)), tissue)


def _noise(sd: float, grain_mm: float = 0.0) -> np.ndarray:
    values = np.random.default_rng(3).standard_normal(SHAPE)
    values = ndimage.gaussian_filter(values, grain_mm / MM) if grain_mm else values
    return sd * values / values.std()


@pytest.mark.parametrize(("level", "noise"), [(0.0, 5.0), (12.0, 15.0), (20.0, 25.0)])
def test_an_effusion_is_fluid_to_its_rim(level: float, noise: float) -> None:
    tissue = _ball(34)
    hu = np.where(tissue, level, -850.0) + _noise(noise)
    assert _fluid(hu, tissue)[tissue].mean() > 0.97


@pytest.mark.parametrize(
    ("level", "texture"),
    [(35.0, 0.0), (60.0, 0.0), (-60.0, 0.0), (12.0, 25.0)],
    ids=["white", "liver", "fat", "uneven"],
)
def test_other_tissue_is_no_fluid(level: float, texture: float) -> None:
    tissue = _ball(34)
    hu = np.where(tissue, level, -850.0) + _noise(10) + _noise(texture, grain_mm=6)
    assert not _fluid(hu, tissue).any()


def test_a_small_mass_is_no_fluid() -> None:
    tissue = _ball(17)
    assert not _fluid(np.where(tissue, 12.0, -850.0), tissue).any()


HIGH = np.broadcast_to(np.arange(SHAPE[0])[:, None, None] > 19, SHAPE)


def _organs(hu: np.ndarray, dense: np.ndarray) -> np.ndarray:
    return organ_parts(Coarse(hu.astype(np.float32), (MM, MM, MM), (1, 1, 1)), dense, hu > -150)


@pytest.mark.parametrize("level", [40.0, 60.0, 110.0])
def test_a_patch_whose_border_runs_through_an_organ_is_a_part_of_it(level: float) -> None:
    organ = _ball(34)
    patch = organ & HIGH
    assert _organs(np.where(organ, level, -850.0) + _noise(15), patch)[patch].mean() > 0.8


def test_a_patch_with_a_border_that_can_be_seen_stays() -> None:
    organ, patch = _ball(34) & ~HIGH, _ball(34) & HIGH
    for seen in (np.where(patch, 35.0, 60.0), np.where(HIGH & ~np.roll(HIGH, 2, 0), -90.0, 50.0)):
        assert not _organs(np.where(organ | patch, seen, -850.0) + _noise(15), patch).any()


def test_airless_lung_beside_fluid_stays() -> None:
    tissue = _ball(34)
    lung = tissue & HIGH
    fluid = _fluid(np.where(lung, 40.0, np.where(tissue, 10.0, -850.0)) + _noise(10), tissue)
    assert fluid[tissue & ~lung].mean() > 0.9
    assert fluid[lung].mean() < 0.1


def test_fat_that_goes_on_outside_is_left_out_and_an_enclosed_patch_as_dense_as_fat_stays() -> None:
    fat, tissue = _ball(34), np.ones(SHAPE, bool)
    going_on = np.where(fat, -100.0, 40.0) + _noise(20)
    patch = _ball(22) & HIGH
    coarse = Coarse(going_on.astype(np.float32), (MM, MM, MM), (1, 1, 1))
    assert outer_fat(coarse, patch, tissue)[patch].mean() > 0.9
    alone = Coarse((np.where(patch, -100.0, 40.0) + _noise(20)).astype(np.float32), (MM, MM, MM), (1, 1, 1))
    assert not outer_fat(alone, patch, tissue).any()


@pytest.mark.parametrize(("radius_mm", "goes"), [(13, True), (22, False)])
def test_a_small_patch_set_in_fat_goes_with_what_the_fat_is_around(radius_mm: float, goes: bool) -> None:
    organ, patch, tissue = _ball(radius_mm - 3), _ball(radius_mm), np.ones(SHAPE, bool)
    coarse = Coarse((np.where(organ, 40.0, -100.0) + _noise(20)).astype(np.float32), (MM, MM, MM), (1, 1, 1))
    assert (outer_fat(coarse, patch, tissue)[organ].mean() > 0.9) == goes
    beside = np.where(HIGH | organ, coarse.hu, 40.0).astype(np.float32)
    assert not outer_fat(Coarse(beside, (MM, MM, MM), (1, 1, 1)), patch | (_ball(26) & ~HIGH), tissue)[organ].any()
