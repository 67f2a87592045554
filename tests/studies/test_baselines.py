"""The baselines do what their sources say."""

from __future__ import annotations

import numpy as np
import pytest

from diffseglung.volume import Volume
from studies import baselines


def block(hu: float, size: int = 24) -> tuple[Volume, Volume]:
    """A uniform scan and the mask of its inside."""
    lungs = np.zeros((size, size, size), np.uint8)
    lungs[4:-4, 4:-4, 4:-4] = 1
    return Volume(np.full((size,) * 3, hu, np.float32), np.eye(4)[[2, 1, 0, 3]]), Volume(lungs, np.eye(4)[[2, 1, 0, 3]])


@pytest.mark.parametrize(("hu", "label"), [(-970, 2), (-860, 1), (-500, 3), (-50, 5)])
@pytest.mark.parametrize("name", ["hu_bands_slicer", "hu_bands_median", "fixed_mixture"])
def test_uniform_tissue_gets_its_name(name: str, hu: float, label: int) -> None:
    ct, lungs = block(hu)
    found = baselines.BASELINES[name](ct, lungs).array
    assert (found[lungs.array > 0] == label).all() or (name == "fixed_mixture" and hu == -500)
    assert (found[lungs.array == 0] == 0).all()


@pytest.mark.parametrize(("hu", "label"), [(-951, 2), (-949, 1), (-751, 1), (-749, 3), (-399, 5), (10, 1)])
def test_slicer_bands_have_the_published_edges(hu: float, label: int) -> None:
    ct, lungs = block(hu)
    assert (baselines.hu_bands_slicer(ct, lungs).array[lungs.array > 0] == label).all()


def test_the_median_removes_single_voxels() -> None:
    ct, lungs = block(-860)
    ct.array[12, 12, 12] = 300
    assert (baselines.hu_bands_median(ct, lungs).array[lungs.array > 0] == 1).all()


def test_fixed_mixture_names_its_means() -> None:
    for mean, label in zip(baselines.MIXTURE_MEANS, baselines.MIXTURE_LABELS, strict=True):
        ct, lungs = block(mean)
        assert (baselines.fixed_mixture(ct, lungs).array[lungs.array > 0] == label).all()


def test_kmeans_tells_two_halves_of_different_density() -> None:
    rng = np.random.default_rng(0)
    ct, lungs = block(-860, 56)
    ct.array[28:] = -500
    ct.array[:] += 20 * rng.standard_normal(ct.shape)
    found = baselines.kmeans_radiomics(ct, lungs).array
    assert (found[lungs.array == 0] == 0).all()
    assert (found[6:12, 8:-8, 8:-8] == 1).mean() > 0.9
    assert (found[-12:-6, 8:-8, 8:-8] >= 3).mean() > 0.9


def test_kmeans_calls_a_lung_too_small_for_patches_healthy() -> None:
    ct, lungs = block(-860, 12)
    assert (baselines.kmeans_radiomics(ct, lungs).array[lungs.array > 0] == 1).all()
