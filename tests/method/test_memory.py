"""What a network call takes grows as its tile does, and the estimate is near what the call really takes."""

from __future__ import annotations

import pytest
import torch

from diffseglung.method.memory import WORKSPACE, call_bytes
from diffseglung.method.unet import UNet
from diffseglung.platform.config import UNETS


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
