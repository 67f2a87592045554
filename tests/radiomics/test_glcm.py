"""Co-occurrence against the IBSI digital phantom and scikit-image."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from skimage.feature import graycomatrix, graycoprops

from diffseglung.config import RadiomicsConfig
from diffseglung.radiomics.firstorder import entropy, quantise
from diffseglung.radiomics.glcm import DIRECTIONS, GLCM, count_pairs, count_pairs_batch, measure, measure_batch

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
