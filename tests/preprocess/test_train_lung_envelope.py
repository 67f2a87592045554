"""The script that trains the lung mask's network: what it shows the network, and that it learns from it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "train_lung_envelope.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    import sys

    spec = importlib.util.spec_from_file_location("train_lung_envelope", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def chest(script: ModuleType) -> object:
    """Two lungs of 5 mm voxels in a body."""
    z, y, x = np.indices((40, 50, 60))
    body = ((y - 25) / 24) ** 2 + ((x - 30) / 29) ** 2 < 1
    lungs = sum(((z - 20) / 17) ** 2 + ((y - 25) / 15) ** 2 + ((x - c) / 10) ** 2 < 1 for c in (17, 43))
    hu = np.where(lungs, -850.0, np.where(body, 40.0, -1000.0)).astype(np.float32)
    return script.Case("chest", hu, lungs.astype(np.float32))


def test_filling_makes_lung_dense_and_touches_nothing_else(script: ModuleType) -> None:
    case = chest(script)
    changed = []
    for seed in range(8):
        filled = script.fill(case, np.random.default_rng(seed))
        np.testing.assert_array_equal(filled[case.lungs == 0], case.hu[case.lungs == 0])
        changed.append(((filled - case.hu)[case.lungs > 0] > 500).mean())
    assert max(changed) > 0.1
    assert min(changed) < 0.05


def test_a_visit_keeps_hu_and_lungs_together(script: ModuleType) -> None:
    case = chest(script)
    for seed in range(4):
        hu, lungs = script.visit(case, np.random.default_rng(seed))
        assert hu.shape == lungs.shape == (1, *script.CROP)
        air = (hu < -700) & (hu > -930)
        assert lungs[air].mean() > 0.6
        assert hu[lungs < 0.01].max() < 250


@pytest.mark.slow
def test_training_learns_the_lungs_of_one_chest(script: ModuleType) -> None:
    lines = list(script.train([chest(script)], [], updates=50, batch=1, seed=0))
    assert [line["update"] for line in lines] == [50]
    assert lines[0]["loss"] < 1.2
    assert all(bool(weight.isfinite().all()) for weight in lines[0]["weights"].values())
