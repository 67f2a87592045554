"""The scripts that train the lung finder: what they show the networks, and that these learn from it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module")
def scripts() -> Any:
    """Imports a module of the scripts' folder."""
    sys.path.insert(0, str(SCRIPTS))
    yield importlib.import_module
    sys.path.remove(str(SCRIPTS))


@pytest.fixture(scope="module")
def variety(scripts: Any) -> ModuleType:
    return scripts("chest_variety")


def toy(variety: ModuleType) -> Any:
    """Two lungs of 3 mm voxels in a body."""
    z, y, x = np.indices((80, 70, 100))
    body = ((y - 35) / 32) ** 2 + ((x - 50) / 46) ** 2 < 1
    right, left = (((z - 40) / 34) ** 2 + ((y - 35) / 22) ** 2 + ((x - c) / 16) ** 2 < 1 for c in (28, 72))
    shares = np.zeros((5, *body.shape), np.float32)
    shares[2], shares[3] = right, left
    shares[1] = body & ~right & ~left
    shares[0] = ~body
    hu = np.where(right | left, -850.0, np.where(body, 40.0, -1000.0)).astype(np.float32)
    return variety.Chest("toy", hu, shares)


def test_a_visit_keeps_densities_and_classes_together(variety: ModuleType) -> None:
    chest = toy(variety)
    for seed in range(6):
        hu, shares, weight = variety.visit_of(chest, np.random.default_rng(seed))
        assert hu.shape == weight.shape == (1, *variety.CROP)
        torch.testing.assert_close(shares.sum(0), torch.ones(variety.CROP))
        assert bool(torch.isfinite(hu).all())
        assert (weight > 0).all()
        unseen = weight <= variety.UNSEEN
        assert (hu[unseen] == -1000).all()  # what was not scanned is air, and room
        assert (shares[:1][unseen] == 1).all()


def test_the_same_seed_gives_the_same_visit_and_another_one_another(variety: ModuleType) -> None:
    chest = toy(variety)
    first, again, other = (variety.visit_of(chest, np.random.default_rng(seed))[0] for seed in (1, 1, 2))
    torch.testing.assert_close(first, again)
    assert not torch.equal(first, other)


def test_lungs_are_filled_emptied_and_left_alone(variety: ModuleType) -> None:
    chest = toy(variety)
    means = []
    for seed in range(24):
        visit = variety.moved(chest, np.random.default_rng(seed), turned=False)
        before, lungs = visit.lungs.sum(), visit.lungs > 0.9
        if not lungs.any():
            continue  # a view of the belly
        variety.lungs_changed(visit)
        means.append(float(visit.hu[lungs].mean()))
        assert visit.lungs.sum() <= before + 1
    assert min(means) < -860
    assert max(means) > -500


def test_free_fluid_is_no_lung_but_the_airless_lung_above_it_is(variety: ModuleType) -> None:
    chest = toy(variety)
    for seed in range(6):
        visit = variety.moved(chest, np.random.default_rng(seed), turned=False)
        before = visit.lungs.copy()
        variety.effusion(visit)
        gone = before - visit.lungs
        assert 0 < gone.sum() < 0.5 * before.sum()
        fluid = gone > 0.9
        assert abs(np.median(visit.hu[fluid]) - 12) < 25
        assert (visit.shares[1][fluid] > 0.9).all()


def test_below_the_lungs_there_are_at_most_their_bases(variety: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variety, "BELLY", 1.0)
    chest = toy(variety)
    whole = float(chest.shares[2:4].sum()) / 8
    shares = [float(variety.moved(chest, np.random.default_rng(seed)).lungs.sum()) / whole for seed in range(12)]
    assert min(shares) < 0.01
    assert max(shares) < 0.7


def test_a_chest_that_lies_as_its_header_says_keeps_its_sides(variety: ModuleType) -> None:
    for seed in range(4):
        _, shares, _ = variety.by_header(toy(variety), np.random.default_rng(seed))
        x = torch.arange(variety.CROP[2], dtype=torch.float32)
        right, left = ((shares[c].sum((0, 1)) * x).sum() / shares[c].sum().clamp(min=1e-3) for c in (2, 3))
        assert right < left or min(shares[2].sum(), shares[3].sum()) < 50


def test_turned_fields_say_what_was_done_to_them(scripts: Any) -> None:
    script = scripts("train_orientation")
    field = torch.zeros(3, 32, 24, 32)
    field[:, 20:, 15:, 20:] = 1  # high along each axis
    for seed in range(12):
        out, done = script.turned(field, np.random.default_rng(seed))
        assert out.shape == field.shape
        if done[3]:
            assert (done[:3] == -1).all()
            continue
        middle = torch.nonzero(out[0]).float().mean(0) / torch.tensor(out.shape[1:])
        assert ((middle < 0.5).float() == done[:3]).all()


@pytest.mark.slow
def test_training_learns_the_lungs_of_one_chest(scripts: Any, variety: ModuleType, tmp_path: Path) -> None:
    script = scripts("train_lung_finder")
    lines = list(script.train([toy(variety)], [], tmp_path, updates=100, seed=0))
    assert [line["update"] for line in lines] == [50, 100]
    assert lines[1]["loss"] < lines[0]["loss"]
    assert (tmp_path / "lung-finder.safetensors").is_file()
    assert list(script.train([toy(variety)], [], tmp_path, updates=100, seed=0)) == []  # it goes on where it was
