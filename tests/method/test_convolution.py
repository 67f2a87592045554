"""The convolution whose gradient can be trusted."""

from __future__ import annotations

import pytest
import torch

from diffseglung.method.convolution import Conv3d


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
