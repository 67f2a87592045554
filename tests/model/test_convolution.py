"""The convolution's weight gradient is right in bfloat16 on every small grid, two voxels deep included."""

from __future__ import annotations

import pytest
import torch

from diffseglung.model.convolution import Conv3d


@pytest.mark.parametrize("grid", [(1, 4, 4), (2, 4, 4), (2, 6, 6), (3, 4, 4), (4, 2, 2)])
def test_bfloat16_weight_gradient_equals_float64(grid: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    layer = Conv3d(32, 32, 3, padding=1).to(memory_format=torch.channels_last_3d)
    for _ in range(3):
        x = torch.randn(4, 32, *grid)
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            y = layer(x.to(memory_format=torch.channels_last_3d))
        g = torch.randn_like(y, dtype=torch.float32)
        y.backward(g.to(y.dtype))
        exact = torch.nn.grad.conv3d_weight(x.double(), layer.weight.shape, g.double(), padding=1)
        torch.testing.assert_close(layer.weight.grad.double(), exact, rtol=0, atol=0.02 * float(exact.abs().max()))
