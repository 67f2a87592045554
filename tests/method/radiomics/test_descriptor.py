"""The reference descriptor: its names, its invariances and its conventions."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.feature import graycomatrix, graycoprops, local_binary_pattern
from skimage.filters import gabor

from diffseglung.method.radiomics.descriptor import DESCRIPTOR_NAMES, describe_batch, describe_patch
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


def _cubes(patch: Patch, edge: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random sub-cubes of a patch, each with some lung."""
    rng, cubes = np.random.default_rng(0), []
    while len(cubes) < count:
        low = rng.integers(0, np.array(patch[0].shape) - edge + 1)
        box = tuple(slice(a, a + edge) for a in low)
        if patch[1][box].mean() > 0.1:
            cubes.append((patch[0][box], patch[1][box]))
    return torch.from_numpy(np.stack([c[0] for c in cubes])), torch.from_numpy(np.stack([c[1] for c in cubes]))


@pytest.mark.parametrize("planes", ["middle", "all"])
def test_agrees_with_the_reference(real: Patch, planes: str) -> None:
    """The stated tolerance, on the shipped real patch and cubes of it."""
    config = RadiomicsConfig(planes=planes)
    hu, lung = _cubes(real, 12, 6)
    for cubes, masks in ((hu, lung), tuple(torch.from_numpy(values)[None] for values in real)):
        fast = describe_batch(cubes, masks, config).numpy()
        slow = np.stack([describe_patch(h, m, config) for h, m in zip(cubes.numpy(), masks.numpy(), strict=True)])
        assert fast == pytest.approx(slow, rel=1e-4, abs=1e-5, nan_ok=True)


def test_agrees_with_the_reference_on_real_scans(shared_data: Path) -> None:
    """Cubes of three real scans of other scanners, kernels and masks."""
    import SimpleITK as sitk

    for name in ("lctsc_7cases/lctsc_Test-S1-203", "lidc_2cases/lidc_0001", "lung_pet_ct_dx/lungdx_A0001_s2"):
        images = [sitk.GetArrayFromImage(sitk.ReadImage(str(shared_data / f"{name}{e}.nii.gz"))) for e in ("", "_lung")]
        hu, lung = _cubes((images[0].astype(np.float32), images[1] > 0), 32, 4)
        slow = np.stack([describe_patch(h, m) for h, m in zip(hu.numpy(), lung.numpy(), strict=True)])
        assert describe_batch(hu, lung).numpy() == pytest.approx(slow, rel=1e-4, abs=1e-5, nan_ok=True)


def test_patches_do_not_see_each_other(real: Patch) -> None:
    """Permuting patches permutes rows; a batch is its patches one by one."""
    hu, lung = _cubes(real, 10, 7)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    rows = describe_batch(hu, lung)
    assert torch.equal(describe_batch(hu[order], lung[order]), rows[order])
    alone = torch.cat([describe_batch(h[None], m[None]) for h, m in zip(hu, lung, strict=True)])
    torch.testing.assert_close(alone, rows, rtol=1e-5, atol=1e-6)


def test_what_lies_off_the_lung_does_not_matter_to_a_batch(real: Patch) -> None:
    hu, lung = (torch.from_numpy(values)[None] for values in real)
    wide = torch.nn.functional.pad(torch.where(lung, hu, 1000.0), (3, 3, 3, 3, 3, 3), value=-1000.0)
    found = describe_batch(wide, torch.nn.functional.pad(lung, (3, 3, 3, 3, 3, 3)))
    torch.testing.assert_close(found, describe_batch(hu, lung), rtol=1e-4, atol=1e-6)


def test_empty_constant_and_flat_patches_beside_a_real_one(real: Patch) -> None:
    """NaN stays in its own row, and constant patches have the reference's values."""
    hu = torch.stack([torch.from_numpy(real[0]), torch.full((32, 32, 32), -870.0), torch.from_numpy(real[0])])
    lung = torch.stack(
        [torch.from_numpy(real[1]), torch.ones(32, 32, 32, dtype=torch.bool), torch.zeros(32, 32, 32) > 0]
    )
    rows = describe_batch(hu, lung).numpy()
    assert np.isfinite(rows[0]).all()
    assert rows[1] == pytest.approx(describe_patch(hu[1].numpy(), lung[1].numpy()), abs=1e-5)
    assert np.isnan(rows[2]).all()


def test_half_precision_does_not_reach_it(real: Patch) -> None:
    """Called inside a mixed-precision region, the numbers stay."""
    hu, lung = (torch.from_numpy(values)[None] for values in real)
    with torch.autocast("cpu", torch.bfloat16):
        inside = describe_batch(hu, lung)
    assert torch.equal(inside, describe_batch(hu, lung))


@pytest.mark.gpu
def test_same_on_a_gpu(real: Patch) -> None:
    hu, lung = _cubes(real, 16, 8)
    on_gpu = describe_batch(hu.cuda(), lung.cuda()).cpu()
    torch.testing.assert_close(on_gpu, describe_batch(hu, lung), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_several_times_faster_than_scikit_image(real: Patch) -> None:
    """One core, cubes of 32 voxels: at least 5 times scikit-image, which looks at the middle planes alone."""
    hu, lung = (torch.from_numpy(values)[None].repeat(32, 1, 1, 1) for values in real)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    describe_batch(hu, lung)
    start = time.process_time()
    describe_batch(hu, lung)
    ours = (time.process_time() - start) / 32
    torch.set_num_threads(threads)

    level = np.clip((real[0] + 1000) * 64 / 1400, 0, 63).astype(np.uint8)
    start = time.process_time()
    for axis in range(3):
        matrix = graycomatrix(level.take(16, axis), [1], [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4], 64, symmetric=True)
        for name in ("contrast", "dissimilarity", "homogeneity", "energy", "correlation", "ASM"):
            graycoprops(matrix, name)
        local_binary_pattern(level.take(16, axis), 8, 1, method="uniform")
        for turn in range(4):
            for frequency in (0.10, 0.25, 0.40):
                gabor(real[0].take(16, axis), frequency, turn * np.pi / 4, sigma_x=3, sigma_y=3, n_stds=7 / 3)
    assert (time.process_time() - start) / ours > 5
