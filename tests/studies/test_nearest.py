"""A repeated patch is found, also when it was flipped; a patch of the set itself is passed over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diffseglung.platform.config import IntensityConfig, PatchConfig
from diffseglung.platform.errors import InputError
from studies import nearest
from tests import toys

PATCH = PatchConfig(shape=toys.SHAPE, spacing_mm=0.0, patches_per_patient=3)


@pytest.fixture
def training() -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (70, 4, 6, 8)).astype(np.float16)


def test_a_copy_is_found_in_any_flip(training: np.ndarray) -> None:
    copies = np.stack([training[3], training[68][::-1], training[5][:, ::-1, ::-1]]).astype(np.float32)
    assert nearest.nearest_voxels(copies, training) == pytest.approx(np.zeros(3), abs=1e-3)


def test_distance_is_the_root_mean_square_of_the_best(training: np.ndarray) -> None:
    new = np.random.default_rng(1).uniform(-1, 1, (2, 4, 6, 8)).astype(np.float32)
    flips = [f for f in np.ndindex(2, 2, 2)]
    wanted = [
        min(
            np.sqrt(((np.flip(patch, [i for i in range(3) if flip[i]]) - other.astype(np.float32)) ** 2).mean())
            for flip in flips
            for other in training
        )
        for patch in new
    ]
    assert nearest.nearest_voxels(new, training) == pytest.approx(wanted, rel=1e-4)


def test_own_place_is_passed_over(training: np.ndarray) -> None:
    places = np.array([2, 65])
    found = nearest.nearest_voxels(training[places], training, places)
    rest = np.delete(training, places[0], 0)
    assert found[0] == pytest.approx(nearest.nearest_voxels(training[places[:1]], rest)[0], rel=1e-4)
    assert (found > 0.3).all()
    rows = np.random.default_rng(2).standard_normal((20, 5))
    rows[4] = np.nan  # unknown rows are no neighbours
    assert nearest.nearest_rows(rows[[7]], rows)[0] == 0
    assert nearest.nearest_rows(rows[[7]], rows, np.array([7]))[0] > 0


def test_precomputed_patches_are_read_and_described_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toys.toy_patches(tmp_path)
    found = nearest.open_training(tmp_path / "patches", PATCH)
    assert found.real.tolist() == [True] * 6
    rows = nearest.training_descriptors(found, IntensityConfig(), tmp_path)
    assert rows.shape == (6, 34)
    monkeypatch.setattr(nearest, "describe", None)
    assert np.array_equal(nearest.training_descriptors(found, IntensityConfig(), tmp_path), rows, equal_nan=True)


def test_other_patches_and_no_patches_are_refused(tmp_path: Path) -> None:
    toys.toy_patches(tmp_path)
    with pytest.raises(InputError, match="the model"):
        nearest.open_training(tmp_path / "patches", PatchConfig(shape=(16, 16, 16), spacing_mm=0.0))
    with pytest.raises(InputError, match=r"cannot read .*ct\.npy"):
        nearest.open_training(tmp_path, PATCH)
