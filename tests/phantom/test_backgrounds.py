"""Backgrounds: taken apart, kept, and honest about what may be diseased."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from diffseglung.case.alignment import HealthyLevel
from diffseglung.labels import EMPHYSEMA
from diffseglung.phantom.backgrounds import SPACING_MM, Background, real_background, synthetic_background
from diffseglung.phantom.canvas import UNKNOWN
from tests.toys import toy_prepared


def test_a_background_comes_back_from_its_folder(background: Background, tmp_path: Path) -> None:
    background.save(tmp_path / "one")
    again = Background.load(tmp_path / "one")
    assert all(np.array_equal(getattr(again, name), value) for name, value in vars(background).items())
    assert again.digest == background.digest
    dataclasses.replace(background, hu=background.hu + np.float16(8)).save(tmp_path / "one")
    assert Background.load(tmp_path / "one").digest != background.digest
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_what_may_be_diseased_is_neither_healthy_nor_a_lesion() -> None:
    prepared = toy_prepared()
    lesions = np.zeros(prepared.lungs.shape, np.uint8)
    lesions[:, : lesions.shape[1] // 2] = UNKNOWN
    lesions[::2] = EMPHYSEMA.id
    found = real_background(prepared, lesions)
    for value in (UNKNOWN, EMPHYSEMA.id):
        assert 0.05 < (found.truth[found.lungs > 0] == value).mean() < 0.9
    assert not found.truth[found.lungs == 0].any()


def test_thick_dense_tissue_in_a_lung_may_be_disease() -> None:
    prepared = toy_prepared()
    middle = tuple(np.argwhere(prepared.lungs).mean(0).astype(int))
    box = tuple(slice(m - 6, m + 7) for m in middle)
    prepared.hu[box] = 40
    found = real_background(dataclasses.replace(prepared))
    assert (found.truth == UNKNOWN).sum() * SPACING_MM**3 / 1000 > 3


def test_a_synthetic_background_is_a_healthy_chest() -> None:
    one = synthetic_background(3)
    litres = (one.lungs > 0).sum() * SPACING_MM**3 / 1e6
    assert 2 < litres < 9
    assert np.array_equal(one.truth, one.lungs > 0)
    inner = one.depth > 10
    assert abs(np.median(one.hu[inner]) - one.healthy.mean()) < 60


def test_each_lung_keeps_its_own_healthy_level() -> None:
    own = HealthyLevel(-900.0, 0.0, 0.0), HealthyLevel(-800.0, 0.0, 0.0)
    found = real_background(dataclasses.replace(toy_prepared(), lung_levels=own))
    assert found.healthy.shape == (2, found.hu.shape[1])
    assert np.unique(found.healthy[0]).tolist() == [-900.0]
    assert np.unique(found.healthy[1]).tolist() == [-800.0]
