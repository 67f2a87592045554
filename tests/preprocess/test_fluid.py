"""Even tissue that reads as water is fluid; airless lung, tumours and noise are not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from diffseglung.preprocess.coarse import Coarse
from diffseglung.preprocess.fluid import pleural_fluid

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


def test_airless_lung_beside_fluid_stays() -> None:
    tissue = _ball(34)
    lung = tissue & (np.arange(SHAPE[0])[:, None, None] > 19)
    fluid = _fluid(np.where(lung, 40.0, np.where(tissue, 10.0, -850.0)) + _noise(10), tissue)
    assert fluid[tissue & ~lung].mean() > 0.9
    assert fluid[lung].mean() < 0.1
