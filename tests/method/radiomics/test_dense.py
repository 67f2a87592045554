"""The dense descriptor against `describe_batch` on windows, and against brute force for what differs by definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diffseglung.method.radiomics import dense
from diffseglung.method.radiomics.dense import describe_dense
from diffseglung.method.radiomics.descriptor import describe_batch
from diffseglung.method.radiomics.gabor import angles, energy_maps
from diffseglung.method.radiomics.lbp import BINS, codes_batch
from diffseglung.platform.config import RadiomicsConfig
from diffseglung.platform.errors import ConfigError

from .conftest import Patch

CONFIG = RadiomicsConfig()


def _tensors(scan: Patch) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(scan[0])[None], torch.from_numpy(scan[1])[None]


def _windows(values: torch.Tensor, stride: int, window: int, fill: float) -> torch.Tensor:
    """All windows (z, y, x, w, w, w) of one scan, by padding and slicing."""
    before, after = (window - stride) // 2, window
    padded = torch.nn.functional.pad(values[0].float(), (before, after) * 3, value=fill)
    cells = [range(n // stride) for n in values.shape[1:]]
    cubes = [
        padded[z * stride :, y * stride :, x * stride :][:window, :window, :window]
        for z in cells[0]
        for y in cells[1]
        for x in cells[2]
    ]
    return torch.stack(cubes).view(*map(len, cells), window, window, window)


@pytest.mark.parametrize(("stride", "window"), [(4, 8), (4, 9), (3, 3), (8, 16)])
def test_hu_and_glcm_are_describe_batch_of_the_window(scan: Patch, stride: int, window: int) -> None:
    """Exactly, at every position with enough lung; NaN in all 34 elsewhere."""
    hu, lung = _tensors(scan)
    found = describe_dense(hu, lung, stride=stride, window=window)[0]
    masks = _windows(lung, stride, window, 0) > 0
    enough = masks.float().mean((3, 4, 5)) >= CONFIG.min_lung
    assert found.shape == (34, *(n // stride for n in hu.shape[1:]))
    assert torch.equal(torch.isfinite(found), enough.expand(34, -1, -1, -1))
    wanted = describe_batch(_windows(hu, stride, window, 0)[enough], masks[enough])
    torch.testing.assert_close(found[:11, enough], wanted[:, :11].T, rtol=1e-5, atol=1e-5)


def test_texture_is_the_window_mean_of_whole_scan_maps(noise: Patch) -> None:
    """All lung: LBP codes and energies of every plane of the scan, averaged over window and plane direction."""
    rng = np.random.default_rng(2)
    hu = torch.from_numpy(rng.normal(-800, 60, (48, 50, 52)).astype(np.float32))
    lung = torch.ones_like(hu, dtype=torch.bool)
    found = describe_dense(hu[None], lung[None], stride=4, window=8)[0, 11:, 6, 6, 6]
    core = (slice(22, 30),) * 3  # the window of position 6: 24 - 2 to 24 - 2 + 8
    wanted = torch.zeros(BINS + 3 * len(angles(CONFIG)))
    for axis in range(3):
        planes = (hu - hu.mean()).movedim(axis, 0)
        code = codes_batch(planes).movedim(0, axis)[core]
        wanted[:BINS] += torch.bincount(code.flatten().long(), minlength=BINS) / code.numel() / 3
        energies = [energy.movedim(0, axis)[core].mean() for energy in energy_maps(planes, CONFIG)]
        wanted[BINS:] += torch.stack(energies) / 3
    torch.testing.assert_close(found[:-1], wanted, rtol=1e-3, atol=1e-6)
    assert found[-1] == pytest.approx(float(wanted[BINS:].mean()), rel=1e-3)


def test_slabs_and_chunks_leave_no_trace(scan: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounded memory changes nothing but the memory."""
    hu, lung = _tensors(scan)
    whole = describe_dense(hu, lung)
    monkeypatch.setattr(dense, "SLAB", 8)
    monkeypatch.setattr(dense, "CHUNK_VOXELS", 2000)
    torch.testing.assert_close(describe_dense(hu, lung), whole, rtol=1e-4, atol=1e-6, equal_nan=True)


def test_what_lies_off_the_lung_does_not_matter(scan: Patch) -> None:
    """Other values off the lung, NaN among them, or more air around it."""
    hu, lung = _tensors(scan)
    whole = describe_dense(hu, lung)
    other = describe_dense(torch.where(lung, hu, torch.nan), lung)
    torch.testing.assert_close(other, whole, rtol=1e-4, atol=1e-6, equal_nan=True)
    wide = [torch.nn.functional.pad(v.float(), (8,) * 6, value=-1000.0 * k) for k, v in ((1, hu), (0, lung))]
    padded = describe_dense(*wide, stride=4, window=8)[:, :, 2:-2, 2:-2, 2:-2]
    torch.testing.assert_close(padded, whole, rtol=1e-4, atol=1e-6, equal_nan=True)


def test_a_mask_border_makes_no_edge() -> None:
    """Smooth lung beside bone: texture at the border is that of the interior, not that of a step of 1200 HU."""
    hu = torch.full((1, 32, 32, 32), 400.0)
    lung = torch.zeros(1, 32, 32, 32, dtype=torch.bool)
    lung[:, :, :, :16] = True
    ramp = torch.linspace(-900, -780, 32).view(1, 1, 32, 1).expand(1, 32, 32, 32)
    found = describe_dense(torch.where(lung, ramp, hu), lung)[0, -1]
    step = describe_dense(torch.where(lung, ramp, hu), torch.ones_like(lung))[0, -1]
    assert found[4, 4, 3] < 1e-3 * step[4, 4, 3]


def test_scans_of_a_batch_do_not_see_each_other(scan: Patch) -> None:
    hu, lung = _tensors(scan)
    both = describe_dense(torch.cat([hu, hu.flip(1)]), torch.cat([lung, torch.zeros_like(lung)]))
    torch.testing.assert_close(both[:1], describe_dense(hu, lung), equal_nan=True)
    assert torch.isnan(both[1]).all()


def test_smaller_than_a_window() -> None:
    """A sliver of a scan gives a grid of its size; one thinner than the stride gives an empty grid."""
    sliver = torch.full((1, 5, 6, 7), -800.0)
    assert describe_dense(sliver, sliver < 0, stride=4, window=8).shape == (1, 34, 1, 1, 1)
    assert describe_dense(sliver[:, :2], sliver[:, :2] < 0, stride=4, window=8).shape == (1, 34, 0, 1, 1)


def test_windows_must_cover_the_stride() -> None:
    volume = torch.zeros(1, 8, 8, 8)
    with pytest.raises(ConfigError, match="does not cover"):
        describe_dense(volume, volume, stride=4, window=2)


@pytest.mark.gpu
def test_same_on_a_gpu(scan: Patch) -> None:
    hu, lung = _tensors(scan)
    on_gpu = describe_dense(hu.cuda(), lung.cuda()).cpu()
    torch.testing.assert_close(on_gpu, describe_dense(hu, lung), rtol=1e-3, atol=1e-5, equal_nan=True)
