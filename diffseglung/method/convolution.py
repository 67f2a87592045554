"""A 3D convolution whose gradient can be trusted on every grid."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Conv3d(nn.Conv3d):
    """`nn.Conv3d`, in float32 where a CPU would train it in bfloat16 on a grid two voxels deep.

    There oneDNN's bfloat16 weight gradient reads memory that it never wrote (seen with PyTorch 2.13 on a processor with
    AVX512-BF16: errors of order one, now and then NaN). Such grids are the smallest of the network, so this is free.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Z, Y, X) -> (B, C', Z', Y', X')."""
        if x.shape[2] == 2 and x.device.type == "cpu" and torch.is_autocast_enabled("cpu") and torch.is_grad_enabled():
            with torch.autocast("cpu", enabled=False):
                return super().forward(x.float())
        return super().forward(x)
