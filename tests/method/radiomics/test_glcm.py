"""Co-occurrence against the IBSI digital phantom and scikit-image."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from skimage.feature import graycomatrix, graycoprops

from diffseglung.method.radiomics.firstorder import entropy, quantise
from diffseglung.method.radiomics.glcm import (
    DIRECTIONS,
    GLCM,
    count_pairs,
    count_pairs_batch,
    glcm_batch,
    glcm_patch,
    measure,
    measure_batch,
    pair_slices,
)
from diffseglung.platform.config import RadiomicsConfig

from .conftest import GOLDEN, Patch

PLANAR = ((0, 0, 1), (0, 1, 1), (0, 1, 0), (0, 1, -1))
"""scikit-image's angles 0, 45, 90 and 135 degrees (rows run down) as offsets (Z, Y, X)."""


def _phantom() -> Patch:
    image, mask = (np.load(GOLDEN / f"ibsi_digital_phantom_{name}.npy") for name in ("image", "mask"))
    return image.astype(np.int64), mask > 0


def _named(measures: np.ndarray, counts: np.ndarray) -> dict[str, float]:
    names = [name.removeprefix("glcm_") for name in GLCM]
    return {**dict(zip(names, measures.tolist(), strict=True)), "joint_entropy": entropy(counts.ravel())}


def test_ibsi_phantom_merged_over_directions() -> None:
    """IBSI aggregation 3D, merged: the one in use here, by the reference and by the fast path."""
    golden = json.loads((GOLDEN / "ibsi_digital_phantom.json").read_text(encoding="utf-8"))["glcm_3d_merged"]
    image, mask = _phantom()
    counts = count_pairs(image, mask, 7)
    found = _named(measure(counts), counts)
    assert {name: found[name] for name in golden} == pytest.approx(golden, rel=1e-8)
    fast = count_pairs_batch(torch.from_numpy(image)[None], torch.from_numpy(mask)[None], 7)
    assert (fast[0].numpy() == counts).all()
    assert measure_batch(fast)[0].numpy() == pytest.approx(measure(counts), rel=1e-6)


def test_ibsi_phantom_averaged_over_directions() -> None:
    """IBSI aggregation 3D, averaged: the same counts and measures, direction by direction."""
    golden = json.loads((GOLDEN / "ibsi_digital_phantom.json").read_text(encoding="utf-8"))["glcm_3d_averaged"]
    image, mask = _phantom()
    each = []
    for offset in DIRECTIONS:
        counts = count_pairs(image, mask, 7, (offset,))
        each.append(_named(measure(counts), counts))
    assert {name: np.mean([found[name] for found in each]) for name in golden} == pytest.approx(golden, rel=1e-8)


def test_thirteen_directions_and_their_opposites_are_all_neighbours() -> None:
    both = {*DIRECTIONS, *((-z, -y, -x) for z, y, x in DIRECTIONS)}
    assert len(DIRECTIONS) == 13
    assert both == {(z, y, x) for z in (-1, 0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1)} - {(0, 0, 0)}


@pytest.mark.parametrize("direction", range(4))
def test_counts_are_scikit_images_on_a_plane(real: Patch, direction: int) -> None:
    """Identical matrices, and the same measures from them."""
    level = quantise(real[0][16:17], 64, RadiomicsConfig())
    oracle = graycomatrix(level[0].astype(np.uint8), [1], [direction * np.pi / 4], 64, symmetric=True)
    everywhere = np.ones(level.shape, bool)
    counts = count_pairs(level, everywhere, 64, (PLANAR[direction],))
    fast = count_pairs_batch(
        torch.from_numpy(level)[None], torch.from_numpy(everywhere)[None], 64, (PLANAR[direction],)
    )
    assert (counts == oracle[:, :, 0, 0]).all()
    assert (fast[0].numpy() == counts).all()
    share = oracle / oracle.sum((0, 1))
    wanted = [graycoprops(share, name.removeprefix("glcm_").replace("asm", "ASM"))[0, 0] for name in GLCM]
    assert measure(counts) == pytest.approx(np.array(wanted), rel=1e-9)


def test_pairs_need_both_voxels_in_the_lung(noise: Patch) -> None:
    """What the voxels off the lung hold does not matter."""
    hu, lung = noise
    level = quantise(hu, 64, RadiomicsConfig())
    other = np.where(lung, level, 63 - level)
    assert (count_pairs(level, lung, 64) == count_pairs(other, lung, 64)).all()


def test_no_pairs_is_unknown_and_one_level_is_uniform() -> None:
    """Empty: NaN. Constant: no contrast, all else 1, by convention for the correlation as in scikit-image."""
    counts = np.zeros((2, 64, 64), np.float32)
    counts[1, 5, 5] = 20
    for rows in (np.array([measure(c) for c in counts]), measure_batch(torch.from_numpy(counts)).numpy()):
        assert np.isnan(rows[0]).all()
        assert rows[1].tolist() == [0, 0, 1, 1, 1, 1]


def test_a_batch_is_the_reference_patch_by_patch(noise: Patch) -> None:
    """Patches do not see each other, nor does the end of a line see the start of the next."""
    hu, lung = noise[0][:5, :6], noise[1][:5, :6]
    patches = [(hu, lung), (hu[::-1] + 300, ~lung), (hu, np.ones_like(lung)), (hu, np.zeros_like(lung))]
    fast = glcm_batch(*(torch.from_numpy(np.stack(part)) for part in zip(*patches, strict=True)), RadiomicsConfig())
    slow = np.stack([glcm_patch(*patch, RadiomicsConfig()) for patch in patches])
    assert fast.numpy() == pytest.approx(slow, rel=1e-4, abs=1e-6, nan_ok=True)
    assert np.isnan(slow).all(1).tolist() == [False, False, False, True]


def test_measures_of_a_matrix_by_hand() -> None:
    """Half of the pairs (0, 0), the others (0, 2) and (2, 0): mean 1/2, variance 3/4, covariance -1/4."""
    counts = np.zeros((3, 3))
    counts[0, 0], counts[0, 2], counts[2, 0] = 2, 1, 1
    wanted = np.array([2.0, 1.0, 0.6, 0.375**0.5, -1 / 3, 0.375])
    assert measure(counts) == pytest.approx(wanted)
    assert measure_batch(torch.from_numpy(counts)[None])[0].numpy() == pytest.approx(wanted)


@pytest.mark.parametrize("offset", DIRECTIONS)
def test_slices_of_a_pair_are_its_offset_apart(offset: tuple[int, int, int]) -> None:
    first, second = pair_slices(offset)
    places = np.moveaxis(np.indices((3, 4, 5)), 0, -1)
    assert (places[second] - places[first] == offset).all()
    assert places[first][..., 0].size == np.prod(np.array([3, 4, 5]) - np.abs(offset))
