"""Drawing patches: masks to draw in, and samples that belong to their index."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from diffseglung.method.diffusion import DiffusionModel
from diffseglung.method.sampling import cut_lungs, draw_patches, full_lungs, round_lungs, step_list
from diffseglung.method.unet import UNet
from diffseglung.platform.config import UNETS, DiffusionConfig, SampleConfig
from diffseglung.platform.errors import ConfigError, InputError
from diffseglung.platform.runtime import Runtime
from diffseglung.volume import Volume

CPU = Runtime(device=torch.device("cpu"))


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    torch.manual_seed(0)
    network = UNet(UNETS["tiny"]).eval()
    torch.nn.init.normal_(network.leave.weight, std=0.05)
    return DiffusionModel.of(network, DiffusionConfig(steps=40))


@pytest.mark.parametrize("sampler", ["dpm", "ddim", "ddpm"])
def test_a_sample_belongs_to_its_index(model: DiffusionModel, sampler: str) -> None:
    config = SampleConfig(sampler=sampler, steps=4, eta=0.5, batch_size=3, seed=1)
    lungs = round_lungs((8, 8, 12), 4, seed=1)
    together = draw_patches(model, lungs, config, runtime=CPU)
    one_by_one = draw_patches(model, lungs[:2], dataclasses.replace(config, batch_size=1), runtime=CPU)
    assert together.shape == (4, 8, 8, 12)
    assert float(np.abs(together).max()) <= 1
    np.testing.assert_allclose(one_by_one, together[:2], atol=5e-4)
    assert np.abs(together[0] - together[1]).max() > 0.1


def test_samplers_and_seeds_differ(model: DiffusionModel) -> None:
    lungs = full_lungs((8, 8, 8), 1)
    base = SampleConfig(steps=4)
    variants = [
        base,
        *(dataclasses.replace(base, **change) for change in ({"seed": 1}, {"order": 1}, {"sampler": "ddpm"})),
    ]
    drawn = [draw_patches(model, lungs, config, runtime=CPU) for config in variants]
    assert all(np.abs(drawn[0] - other).max() > 1e-3 for other in drawn[1:])


def test_every_network_call_is_counted(model: DiffusionModel) -> None:
    ticks = []
    config = SampleConfig(steps=5, batch_size=2)
    draw_patches(model, full_lungs((8, 8, 8), 3), config, runtime=CPU, tick=lambda: ticks.append(1))
    assert len(ticks) == 2 * len(step_list(model, config)) == 10


@pytest.mark.parametrize("spacing", ["uniform", "logsnr"])
def test_a_short_chain_is_walked_in_full(model: DiffusionModel, spacing: str) -> None:
    assert step_list(model, SampleConfig(steps=250, spacing=spacing)) == list(range(40, 0, -1))
    assert len(step_list(model, SampleConfig(steps=7, spacing=spacing))) == 7


def test_sides_that_do_not_fit_are_refused_before_drawing(model: DiffusionModel) -> None:
    with pytest.raises(ConfigError, match="multiples of 4"):
        draw_patches(model, full_lungs((8, 9, 8), 1), SampleConfig(), runtime=CPU)


def test_round_lungs_fill_most_of_a_patch_and_differ() -> None:
    lungs = round_lungs((32, 96, 96), 5, seed=0)
    assert set(np.unique(lungs)) == {0, 1}
    assert all(0.4 < mask.mean() < 0.95 for mask in lungs)
    assert (lungs[0] != lungs[1]).any()
    np.testing.assert_array_equal(round_lungs((32, 96, 96), 2, seed=0), lungs[:2])


def test_masks_are_cut_from_a_scan_in_any_orientation(oblique_affine: np.ndarray) -> None:
    array = np.zeros((20, 40, 50), np.int32)
    array[4:16, 8:32, 10:40] = 3
    volume = Volume(array, oblique_affine)
    lungs = cut_lungs(volume, (8, 16, 16), 3, spacing_mm=1.5, min_lung_fraction=0.5, seed=2)
    assert lungs.shape == (3, 8, 16, 16)
    assert set(np.unique(lungs)) <= {0, 1}
    assert all(mask.mean() >= 0.5 for mask in lungs)
    again = cut_lungs(volume, (8, 16, 16), 1, spacing_mm=1.5, min_lung_fraction=0.5, seed=2)
    np.testing.assert_array_equal(again, lungs[:1])
    own_grid = cut_lungs(volume, (8, 16, 16), 1, spacing_mm=0, min_lung_fraction=0.5, seed=2)
    assert own_grid.shape == (1, 8, 16, 16)


def test_an_empty_mask_is_refused(oblique: Volume) -> None:
    empty = oblique.with_array(np.zeros(oblique.shape, np.uint8))
    with pytest.raises(InputError, match="empty"):
        cut_lungs(empty, (4, 4, 4), 1, spacing_mm=0, min_lung_fraction=0.5, seed=0)
