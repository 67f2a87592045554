"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from diffseglung.method.train.data import Patches
from diffseglung.output.statistics import measure
from diffseglung.phantom.backgrounds import Background, real_background
from diffseglung.segmentation import Segmentation
from diffseglung.volume import Volume
from tests.browser import browse, chromium  # noqa: F401  (fixtures of every test)
from tests.toys import toy_patches, toy_prepared

ROOT = Path(__file__).parents[1]

hypothesis.settings.register_profile("repository", deadline=None)  # a first call loads libraries; tests have a timeout
hypothesis.settings.load_profile("repository")


CHILDREN_WARNINGS = (
    "error",
    "ignore:builtin type swig:DeprecationWarning",  # SimpleITK 2.4, as in pyproject.toml
)
"""Filters of every Python that a test starts, the last that fits holds: `filterwarnings` of pyproject.toml ends at its
own process."""


@pytest.fixture(scope="session", autouse=True)
def warnings_are_errors_in_children() -> Iterator[None]:
    """Commands, scripts, Dask's workers, torchrun's ranks and notebooks inherit the rule through the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONWARNINGS", ",".join(CHILDREN_WARNINGS))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real CTs outside the repository; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("DIFFSEGLUNG_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no folder of real CTs (set DIFFSEGLUNG_DATA)")
    return folder


def tilted() -> np.ndarray:
    """An affine that is tilted, anisotropic and flipped: a grid on which mistakes in axis order cannot hide."""
    tilt = np.deg2rad(12)
    rotation = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.array([[0, 0, -0.7], [0, 0.8, 0], [2.5, 0, 0]])
    affine[:3, 3] = (31.0, -7.5, 120.25)
    return affine


@pytest.fixture
def oblique_affine() -> np.ndarray:
    """The tilted grid."""
    return tilted()


@pytest.fixture
def oblique(oblique_affine: np.ndarray) -> Volume:
    """A small random CT on the oblique grid."""
    hu = np.random.default_rng(0).integers(-1000, 400, (5, 7, 9)).astype(np.float32)
    return Volume(hu, oblique_affine)


@pytest.fixture
def chest() -> Segmentation:
    """A labelled chest on the tilted grid."""
    return make_chest()


def make_chest() -> Segmentation:
    """40 x 36 x 48 voxels of 2.5 x 0.8 x 0.7 mm: two boxes of lung, each with one block of every lesion."""
    hu = np.full((40, 36, 48), 30.0, np.float32)
    lungs = np.zeros(hu.shape, np.uint8)
    lungs[5:35, 6:30, 4:20], lungs[5:35, 6:30, 28:44] = 1, 2
    labels = (lungs > 0).astype(np.uint8)
    for label, level in ((2, -960), (3, -600), (4, -500), (5, -20)):
        labels[6 * label - 6 : 6 * label, 8:14, 6:10] = label
        labels[6 * label - 6 : 6 * label, 8:14, 30:32] = label
        hu[labels == label] = level
    hu[labels == 1] = -860
    ct = Volume(hu, tilted())
    posterior = np.zeros((*hu.shape, 5), np.float16)
    for column in range(5):
        posterior[..., column][labels == column + 1] = 0.8
        posterior[..., (column + 1) % 5][labels == column + 1] = 0.2
    run = {
        "input": "chest.nii.gz",
        "settings": {"method": "seeded"},
        "warnings": ["thick slices"],
        "seconds": {"all": 1.0},
    }
    parts = ct, ct.with_array(lungs), ct.with_array(labels)
    return Segmentation(*parts, measure(*parts, posterior.sum((0, 1, 2), dtype=np.float64)), posterior, run)


@pytest.fixture(scope="session")
def background() -> Background:
    """A small chest that random lesions can be put into; nobody writes into it."""
    return real_background(toy_prepared())


@pytest.fixture(scope="session")
def patches(tmp_path_factory: pytest.TempPathFactory) -> Patches:
    """Six patches (8, 16, 16) of two cases, with stored teacher. Read-only."""
    return toy_patches(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def one_thread() -> dict[str, str]:
    """Environment of a subprocess that computes on one thread and finds the package."""
    root = str(ROOT)
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root}
