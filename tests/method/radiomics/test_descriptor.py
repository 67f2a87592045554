"""The reference descriptor: its names, its invariances and its conventions."""

from __future__ import annotations

import numpy as np
import pytest

from diffseglung.method.radiomics.descriptor import DESCRIPTOR_NAMES, describe_patch
from diffseglung.platform.config import RadiomicsConfig

from .conftest import Patch

ALL_PLANES = RadiomicsConfig(planes="all")


def _family(name: str) -> list[int]:
    return [i for i, known in enumerate(DESCRIPTOR_NAMES) if known.startswith(name)]


def test_thirty_four_in_four_families() -> None:
    assert len(DESCRIPTOR_NAMES) == len(set(DESCRIPTOR_NAMES)) == 34
    assert [len(_family(name)) for name in ("hu", "glcm", "lbp", "gabor")] == [5, 6, 10, 13]


@pytest.mark.parametrize("axes", [(0, 1), (0, 2), (1, 2)])
def test_turning_a_patch_changes_no_isotropic_descriptor(real: Patch, axes: tuple[int, int]) -> None:
    """All planes: HU, GLCM, LBP and the mean Gabor energy stay; single Gabor orientations change places."""
    before = describe_patch(*real, ALL_PLANES)
    after = describe_patch(*(np.rot90(values, axes=axes) for values in real), ALL_PLANES)
    same = [*_family("hu"), *_family("glcm"), *_family("lbp"), DESCRIPTOR_NAMES.index("gabor_mean")]
    assert after[same] == pytest.approx(before[same], rel=1e-6)


def test_turning_an_odd_patch_keeps_its_middle_planes(noise: Patch) -> None:
    before = describe_patch(*noise)
    after = describe_patch(*(np.rot90(values, axes=(1, 2)) for values in noise))
    same = [*_family("hu"), *_family("glcm"), *_family("lbp"), DESCRIPTOR_NAMES.index("gabor_mean")]
    assert after[same] == pytest.approx(before[same], rel=1e-6)


@pytest.mark.parametrize("fill", [-1000.0, 400.0, np.nan])
def test_what_lies_off_the_lung_does_not_matter(noise: Patch, fill: float) -> None:
    """Neither the values off the lung nor more of them around the patch."""
    hu, lung = noise
    wide = np.pad(np.where(lung, hu, fill), 4, constant_values=fill)
    assert describe_patch(wide, np.pad(lung, 4)) == pytest.approx(describe_patch(hu, lung), rel=1e-9)


def test_a_shift_of_density_moves_the_mean_only(noise: Patch) -> None:
    """By a whole number of levels and bins, 175 HU = 8 levels; entropy bins of 28 HU do not fit and may change."""
    low = np.clip(noise[0], -990, None)
    before, after = describe_patch(low, noise[1]), describe_patch(low + 175, noise[1])
    same = [i for i, name in enumerate(DESCRIPTOR_NAMES) if name not in ("hu_mean", "hu_entropy")]
    assert after[same] == pytest.approx(before[same], rel=1e-4, abs=1e-9)
    assert after[0] - before[0] == pytest.approx(175, abs=1e-3)


def test_constant_patch_has_defined_values() -> None:
    found = dict(zip(DESCRIPTOR_NAMES, describe_patch(np.full((9, 9, 9), -870.0), np.ones((9, 9, 9))), strict=True))
    assert found["hu_mean"] == -870
    assert [found[f"hu_{name}"] for name in ("sd", "skewness", "kurtosis", "entropy")] == [0, 0, 0, 0]
    assert [found["glcm_contrast"], found["glcm_correlation"], found["glcm_asm"]] == [0, 1, 1]
    assert found["lbp_8"] == 1
    assert found["gabor_mean"] == 0


def test_no_lung_is_unknown(noise: Patch) -> None:
    assert np.isnan(describe_patch(noise[0], np.zeros_like(noise[1]))).all()


def test_lung_off_the_middle_planes_leaves_texture_unknown(noise: Patch) -> None:
    lung = np.zeros_like(noise[1])
    lung[1:4, 1:4, 1:4] = True
    found = describe_patch(noise[0], lung)
    assert np.isfinite(found[:11]).all()
    assert np.isnan(found[11:]).all()
    assert np.isfinite(describe_patch(noise[0], lung, ALL_PLANES)).all()
