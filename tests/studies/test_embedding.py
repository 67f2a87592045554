"""Lung voxels alone count; cubes are those of the patch; a feature network is tensors of known shapes or an error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from diffseglung.method.radiomics.descriptor import describe_patch
from diffseglung.platform.config import IntensityConfig
from diffseglung.platform.errors import CheckpointError
from studies.embedding import WIDTHS, activate, cubes, describe, embed, random_weights, read_weights


@pytest.fixture
def patches() -> tuple[np.ndarray, np.ndarray]:
    """Two patches of 32 x 64 x 32 voxels; lungs on the left two thirds of one half."""
    rng = np.random.default_rng(0)
    values = rng.uniform(-0.9, -0.5, (2, 32, 64, 32)).astype(np.float32)
    lungs = np.zeros_like(values)
    lungs[:, :, :34, :24] = 1
    return values, lungs


def test_cubes_are_cut_where_they_lie_and_kept_where_there_is_lung(patches: tuple[np.ndarray, np.ndarray]) -> None:
    values, lungs = patches
    parts, inside, groups = cubes(values, lungs)
    assert groups.tolist() == [0, 1]  # the lower halves hold 2 of 32 rows of lung
    assert np.array_equal(parts, values[:, :, :32])
    assert np.array_equal(inside, lungs[:, :, :32])
    assert len(cubes(values, np.ones_like(lungs))[0]) == 4


def test_descriptors_are_those_of_the_reference(patches: tuple[np.ndarray, np.ndarray]) -> None:
    values, lungs = (a[:1, :16, :16, :16] for a in patches)
    found = describe(values, lungs, IntensityConfig())
    hu = (values[0].astype(np.float64) + 1) * 700 - 1000
    assert found[0] == pytest.approx(describe_patch(hu, lungs[0]), rel=1e-3, abs=1e-4)


def test_voxels_off_the_lung_change_nothing(patches: tuple[np.ndarray, np.ndarray]) -> None:
    values, lungs = patches
    one = embed(values, lungs, IntensityConfig(), random_weights())
    other = embed(np.where(lungs > 0, values, 0.8), lungs, IntensityConfig(), random_weights())
    assert np.array_equal(one.descriptors, other.descriptors)
    assert np.array_equal(one.network, other.network)
    assert one.network.shape == (2, WIDTHS[-1])
    assert one.first(1).groups.tolist() == [0]


def test_the_network_sees_texture_at_equal_density(patches: tuple[np.ndarray, np.ndarray]) -> None:
    rough, lungs = (a[:1, :, :32] for a in patches)
    flat = np.full_like(rough, rough[lungs > 0].mean())
    a, b = activate(rough, lungs, random_weights()), activate(flat, lungs, random_weights())
    assert np.abs(a - b).max() > 0.05 * np.abs(b).max()
    assert np.array_equal(a, activate(rough, lungs, random_weights()))


def test_a_network_from_a_file_does_the_same(tmp_path: Path, patches: tuple[np.ndarray, np.ndarray]) -> None:
    path = tmp_path / "net.safetensors"
    named = {}
    for i, (kernel, bias) in enumerate(random_weights()):
        named |= {f"conv{i}.weight": kernel, f"conv{i}.bias": bias}
    save_file(named, path)
    assert np.array_equal(activate(*patches, read_weights(path)), activate(*patches, random_weights()))


@pytest.mark.parametrize(
    "tensors",
    [
        {"other": torch.zeros(2)},
        {"conv0.weight": torch.zeros(4, 2, 3, 3, 3), "conv0.bias": torch.zeros(4)},
        {"conv0.weight": torch.zeros(4, 1, 3, 3, 3)},
        {"conv0.weight": torch.full((4, 1, 3, 3, 3), torch.nan), "conv0.bias": torch.zeros(4)},
        {"conv0.weight": torch.zeros(4, 1, 3, 3, 3), "conv0.bias": torch.zeros(4), "spare": torch.zeros(1)},
    ],
    ids=["foreign", "channels", "no bias", "not finite", "spare tensor"],
)
def test_another_file_is_refused(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file(tensors, tmp_path / "net.safetensors")
    with pytest.raises(CheckpointError, match="feature network"):
        read_weights(tmp_path / "net.safetensors")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.safetensors").write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_weights(tmp_path / "net.safetensors")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_weights(tmp_path / "absent.safetensors")
