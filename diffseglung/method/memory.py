"""What a network call takes, known before it is made."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from diffseglung.method.unet import UNet
from diffseglung.platform.config import UNetConfig
from diffseglung.volume import Shape

WORKSPACE = 2.0
"""Memory of a call over that of its layers' outputs: kernels keep inputs and buffers of their own. Measured calls of
the named networks took 0.5 to 1.7 times those outputs on a processor (`benchmarks.network`, docs/performance.md)."""


def call_bytes(config: UNetConfig, tile: Shape) -> int:
    """Bytes that one call on one tile (Z, Y, X) takes at most, about, in float32; nothing is computed."""
    numbers = 0

    def count(module: Any, inputs: Any, output: Any) -> None:
        nonlocal numbers
        numbers += output.numel() if isinstance(output, Tensor) else 0

    with torch.device("meta"), torch.inference_mode():
        network = UNet(config)
        for module in network.modules():
            if not list(module.children()):
                module.register_forward_hook(count)
        network(torch.empty(1, 2, *tile), torch.empty(1))
    return int(WORKSPACE * 4 * numbers)
