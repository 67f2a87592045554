"""Heads give unit vectors on the wanted grid, and travel through a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from diffseglung.method.heads import StudentHead, TeacherHead, bring, load_student
from diffseglung.method.unet import UNet
from diffseglung.platform.config import UNETS, DistillConfig, UNetConfig
from diffseglung.platform.errors import CheckpointError, ConfigError

TINY = UNETS["tiny"]


@dataclass
class Card:
    unet: UNetConfig
    distill: DistillConfig | None


def taps_of(network: UNet, shape: tuple[int, int, int] = (8, 16, 16)) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return network.with_taps(torch.randn(2, 2, *shape), torch.tensor([0.1, 0.5]))[1]


def test_local_features_lie_on_the_grid_and_have_length_one():
    network = UNet(TINY)
    out = StudentHead.of(network, DistillConfig(grid_stride=4))(taps_of(network))
    assert out.shape == (2, 128, 2, 4, 4)
    torch.testing.assert_close(out.norm(dim=1), torch.ones(2, 2, 4, 4))


def test_published_features_are_the_bottleneck_alone():
    network = UNet(TINY)
    head = StudentHead.of(network, DistillConfig(loss="published"))
    taps = taps_of(network)
    assert head.taps == ("bottleneck",)
    assert head(taps).shape[2:] == taps["bottleneck"].shape[2:]
    assert head.enter.in_channels == network.tap_channels["bottleneck"]
    assert (head.enter.out_channels, head.leave.out_channels) == (256, 128)


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_bringing_a_constant_to_another_grid_keeps_it(stride):
    assert torch.equal(bring(torch.full((1, 2, 4, 4, 4), 3.0), 4, stride).unique(), torch.tensor([3.0]))


def test_averaging_down_is_the_mean_of_the_cell():
    tap = torch.arange(8.0).reshape(1, 1, 2, 2, 2)
    assert float(bring(tap, 2, 4)) == 3.5


def test_unknown_tap_is_a_setting_error():
    with pytest.raises(ConfigError, match="level7"):
        StudentHead.of(UNet(TINY), DistillConfig(taps=("level7",)))


def test_grid_that_does_not_fit_the_taps_is_a_setting_error():
    with pytest.raises(ConfigError, match="grid_stride 3"):
        StudentHead.of(UNet(TINY), DistillConfig(grid_stride=3))


def test_teacher_head_gives_unit_vectors():
    out = TeacherHead(34, DistillConfig())(torch.randn(5, 34))
    assert out.shape == (5, 128)
    torch.testing.assert_close(out.norm(dim=1), torch.ones(5))


def test_the_head_comes_back_from_weights_and_card():
    network, config = UNet(TINY), DistillConfig(grid_stride=4, dimensions=16)
    head = StudentHead.of(network, config)
    weights = {f"head.{name}": value for name, value in head.state_dict().items()} | {"network.x": torch.zeros(1)}
    again = load_student(weights, Card(TINY, config))
    taps = taps_of(network)
    torch.testing.assert_close(again(taps), head(taps))


def test_a_stage_one_checkpoint_has_no_head():
    with pytest.raises(CheckpointError, match="not distilled"):
        load_student({"network.x": torch.zeros(1)}, Card(TINY, DistillConfig()))


def test_a_head_of_another_size_is_refused():
    head = StudentHead.of(UNet(TINY), DistillConfig(dimensions=8))
    weights = {f"head.{name}": value for name, value in head.state_dict().items()}
    with pytest.raises(CheckpointError, match="does not fit its card"):
        load_student(weights, Card(TINY, DistillConfig(dimensions=16)))
