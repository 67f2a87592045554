"""Toy patches, made once for all tests of training."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from diffseglung.method.train.data import Patches
from tests.toys import toy_patches


@pytest.fixture(scope="session")
def patches(tmp_path_factory: pytest.TempPathFactory) -> Patches:
    """Six patches (8, 16, 16) of two cases, with stored teacher. Read-only."""
    return toy_patches(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def one_thread() -> dict[str, str]:
    """Environment of a subprocess that computes on one thread and finds the package."""
    root = str(Path(__file__).parents[3])
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root}
