"""Shapes, taps, conditioning and size of the network."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from diffseglung.method.diffusion import DiffusionModel
from diffseglung.method.unet import WORKSPACE, Attention, Conv3d, UNet, call_bytes, step_embedding, unshuffle
from diffseglung.platform.config import UNETS, DiffusionConfig, UNetConfig
from diffseglung.platform.errors import InputError

ODD = [
    UNetConfig(base_channels=4, multipliers=(1,), heads=1),
    UNetConfig(base_channels=5, multipliers=(1, 2), heads=3),
    UNetConfig(base_channels=6, multipliers=(1, 1, 3), blocks=2, heads=4),
    UNetConfig(base_channels=4, multipliers=(2, 1), stem_stride=3),
    UNetConfig(base_channels=7, multipliers=(1, 2), stem_stride=4, blocks=2),
    UNetConfig(base_channels=4, multipliers=(1, 2, 3), dense_skips=True, blocks=2, heads=2),
    UNetConfig(base_channels=6, multipliers=(1, 2), dense_skips=True, stem_stride=2, heads=5),
]
DENSE = dataclasses.replace(UNETS["tiny"], dense_skips=True)


def awake(config: UNetConfig, seed: int = 0) -> UNet:
    """A network whose zero-initialised layers have been given weights."""
    torch.manual_seed(seed)
    network = UNet(config).eval()
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return network


def patches(n: int, shape: tuple[int, int, int], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    dice = torch.Generator().manual_seed(seed)
    x = torch.randn((n, 2, *shape), generator=dice)
    x[:, 1] = (x[:, 1] > 0).float()
    return x, torch.rand(n, generator=dice)


@pytest.mark.parametrize("config", [*ODD, UNETS["tiny"]])
def test_output_and_taps_have_the_promised_shapes(config: UNetConfig) -> None:
    network = UNet(config)
    shape = (network.multiple, 2 * network.multiple, 3 * network.multiple)
    predicted, taps = network.with_taps(*patches(2, shape))
    assert predicted.shape == (2, 1, *shape)
    assert set(taps) == set(network.tap_channels) == set(network.tap_strides)
    for name, tap in taps.items():
        assert tap.shape == (2, network.tap_channels[name], *(n // network.tap_strides[name] for n in shape))
    assert network.tap_strides["bottleneck"] == network.multiple


def test_a_new_network_predicts_nothing() -> None:
    assert not UNet(UNETS["tiny"])(*patches(1, (8, 8, 8))).any()


@pytest.mark.parametrize("config", [UNETS["tiny"], DENSE])
def test_a_patch_is_predicted_alike_in_any_batch(config: UNetConfig) -> None:
    network = awake(config)
    x, fraction = patches(3, (8, 8, 12))
    together = network(x, fraction)
    for i in range(3):
        torch.testing.assert_close(
            together[i : i + 1], network(x[i : i + 1], fraction[i : i + 1]), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("config", [UNETS["tiny"], DENSE])
def test_the_gradient_reaches_every_parameter(config: UNetConfig) -> None:
    network = awake(config)
    network(*patches(2, (8, 8, 8))).square().mean().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_mask_and_step_matter_after_one_training_step() -> None:
    torch.manual_seed(0)
    network = UNet(UNETS["tiny"])
    model = DiffusionModel.of(network, DiffusionConfig())
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    x, fraction = patches(2, (8, 8, 8))
    for _ in range(2):
        optimiser.zero_grad()
        model.loss(x[:, :1], x[:, 1:], torch.randn_like(x[:, :1]), torch.tensor([10, 600]))[0].mean().backward()
        optimiser.step()
    flipped = torch.cat([x[:, :1], 1 - x[:, 1:]], dim=1)
    with torch.no_grad():
        before, other_mask, other_step = network(x, fraction), network(flipped, fraction), network(x, 1 - fraction)
    assert float((other_mask - before).abs().max()) > 1e-4
    assert float((other_step - before).abs().max()) > 1e-4


@pytest.mark.parametrize("config", [UNETS["tiny"], DENSE])
def test_recomputing_activations_changes_no_gradient(config: UNetConfig) -> None:
    gradients = []
    for recompute in (False, True):
        network = awake(config)
        network.recompute = recompute
        network(*patches(2, (8, 8, 8))).square().mean().backward()
        gradients.append([p.grad for p in network.parameters()])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again)


def test_attention_can_be_computed_by_a_fused_kernel() -> None:
    with torch.inference_mode(), sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # refuses what it cannot read
        assert Attention(16, 4)(torch.randn(2, 16, 2, 3, 4)).shape == (2, 16, 2, 3, 4)


def test_the_reference_is_the_published_network() -> None:
    """39.1 M parameters, 1313 GFLOP for one patch of 32 x 96 x 96, 256 channels at 1/8."""
    with torch.device("meta"):
        network = UNet(UNETS["reference"])
        with FlopCounterMode(display=False) as counter:
            _, taps = network.with_taps(torch.zeros(1, 2, 32, 96, 96), torch.zeros(1))
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(39.1e6, abs=0.6e6)
    assert counter.get_total_flops() == pytest.approx(1313e9, rel=0.01)
    assert taps["bottleneck"].shape == (1, 256, 4, 12, 12)
    assert taps["decoder"].shape == (1, 64, 32, 96, 96)


@pytest.mark.parametrize(("name", "count"), [("tiny", 59_184), ("small", 5_005_448), ("medium", 19_984_648)])
def test_the_sizes_that_weights_exist_for_stay_as_they_are(name: str, count: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in UNet(UNETS[name]).parameters()) == count


def test_patches_that_cannot_be_halved_are_refused() -> None:
    with pytest.raises(InputError, match="multiples of 4"):
        UNet(UNETS["tiny"])(*patches(1, (8, 10, 8)))


def test_unshuffling_puts_each_channel_at_its_voxel() -> None:
    channels = torch.arange(8.0).reshape(1, 8, 1, 1, 1).expand(1, 8, 2, 2, 2)
    grid = unshuffle(channels, 2)
    assert grid.shape == (1, 1, 4, 4, 4)
    assert torch.equal(grid[0, 0, :2, :2, :2].flatten(), torch.arange(8.0))
    assert torch.equal(grid[0, 0, 2:, 2:, 2:], grid[0, 0, :2, :2, :2])


@pytest.mark.parametrize("channels", [4, 7, 64])
def test_steps_have_distinct_embeddings(channels: int) -> None:
    table = step_embedding(torch.arange(1001) / 1000, channels)
    assert table.shape == (1001, channels)
    assert float(torch.pdist(table).min()) > 1e-2


def gradients(layer: torch.nn.Conv3d, x: torch.Tensor, *, half: bool) -> torch.Tensor:
    layer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        out = layer(x)
    (out.float() * torch.linspace(-1, 1, out.numel()).reshape(out.shape)).sum().backward()
    assert layer.weight.grad is not None
    return layer.weight.grad.clone()


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("kernel", [1, 3])
def test_mixed_precision_keeps_the_weight_gradient_on_shallow_grids(depth: int, kernel: int) -> None:
    torch.manual_seed(0)
    layer = Conv3d(32, 32, kernel, padding=kernel // 2).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    x = torch.randn(2, 32, depth, 6, 6)
    exact = gradients(layer, x, half=False)
    for _ in range(3):
        error = gradients(layer, x, half=True) - exact
        assert float(error.norm() / exact.norm()) < 0.02


def test_it_is_a_convolution_otherwise() -> None:
    layer, x = Conv3d(2, 3, 3, padding=1), torch.randn(1, 2, 2, 4, 4)
    torch.testing.assert_close(layer(x), torch.nn.functional.conv3d(x, layer.weight, layer.bias, padding=1))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16


def test_twice_the_tile_takes_twice_the_memory() -> None:
    one, two = (call_bytes(UNETS["small"], (z, 32, 32)) for z in (32, 64))
    assert two == pytest.approx(2 * one, rel=0.02)


def test_nothing_is_computed_for_the_reference_network_and_it_takes_more() -> None:
    assert call_bytes(UNETS["reference"], (64, 96, 96)) > 10 * call_bytes(UNETS["small"], (64, 96, 96)) > 0


def test_it_counts_what_the_layers_of_a_real_call_return() -> None:
    tile, returned = (16, 32, 32), 0

    def count(module: object, inputs: object, output: torch.Tensor) -> None:
        nonlocal returned
        returned += output.element_size() * output.numel()

    network = UNet(UNETS["tiny"]).eval()
    for module in network.modules():
        if not list(module.children()):
            module.register_forward_hook(count)
    with torch.inference_mode():
        network(torch.zeros(1, 2, *tile), torch.zeros(1))
    assert call_bytes(UNETS["tiny"], tile) == WORKSPACE * returned
