"""Projection heads: the student's stays with the model, the teacher's is dropped after training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffseglung.method.unet import UNet
from diffseglung.platform.config import DistillConfig
from diffseglung.platform.errors import CheckpointError, ConfigError


class StudentHead(nn.Module):
    """Network taps to unit feature vectors: two 1x1x1 convolutions, then L2 normalisation at each position.

    The published loss reads one tap, the bottleneck, on its own grid (256 -> 256 -> 128). The local loss brings all
    chosen taps to the grid of `grid_stride` voxels (finer ones averaged, coarser ones interpolated) and reads them
    together.
    """

    def __init__(self, channels: Mapping[str, int], strides: Mapping[str, int], config: DistillConfig) -> None:
        """channels, strides: of every tap the network has, as `UNet.tap_channels` and `UNet.tap_strides`."""
        super().__init__()
        self.taps = ("bottleneck",) if config.loss == "published" else config.taps
        for name in self.taps:
            if name not in channels:
                raise ConfigError(f"the network has no tap {name!r}", remedy=f"choose from {', '.join(channels)}")
        self.strides = {name: strides[name] for name in self.taps}
        self.stride = strides["bottleneck"] if config.loss == "published" else config.grid_stride
        for name, stride in self.strides.items():
            if max(stride, self.stride) % min(stride, self.stride):
                raise ConfigError(
                    f"tap {name} has stride {stride}, which does not go with grid_stride {self.stride}",
                    remedy="choose a grid_stride that divides, or is a multiple of, every tap's stride",
                )
        self.enter = nn.Conv3d(sum(channels[name] for name in self.taps), config.hidden, 1)
        self.leave = nn.Conv3d(config.hidden, config.dimensions, 1)

    @classmethod
    def of(cls, network: UNet, config: DistillConfig) -> StudentHead:
        """The head that fits a network."""
        return cls(network.tap_channels, network.tap_strides, config)

    def gather(self, taps: Mapping[str, Tensor]) -> Tensor:
        """All taps on the feature grid, (B, sum of channels, Z, Y, X) with one position every `self.stride` voxels."""
        return torch.cat([bring(taps[name], self.strides[name], self.stride) for name in self.taps], dim=1)

    def forward(self, taps: Mapping[str, Tensor]) -> Tensor:
        """Taps of `UNet.with_taps` -> unit vectors (B, dimensions, Z, Y, X) on the feature grid."""
        hidden = F.silu(self.enter(self.gather(taps)))  # (B, hidden, Z, Y, X)
        return F.normalize(self.leave(hidden).float(), dim=1)


class TeacherHead(nn.Module):
    """Descriptors to unit vectors: a two-layer perceptron (34 -> 128 -> 128)."""

    def __init__(self, descriptors: int, config: DistillConfig) -> None:
        super().__init__()
        self.enter = nn.Linear(descriptors, config.dimensions)
        self.leave = nn.Linear(config.dimensions, config.dimensions)

    def forward(self, descriptor: Tensor) -> Tensor:
        """(N, descriptors) standardised -> (N, dimensions) of length 1."""
        return F.normalize(self.leave(F.silu(self.enter(descriptor))).float(), dim=1)


def bring(tap: Tensor, stride: int, wanted: int) -> Tensor:
    """A tap (B, C, z, y, x) of one stride on the grid of another: averaged down, or interpolated up."""
    if stride < wanted:
        return F.avg_pool3d(tap, wanted // stride)
    if stride > wanted:
        size = [n * stride // wanted for n in tap.shape[2:]]
        return F.interpolate(tap, size=size, mode="trilinear", align_corners=False)
    return tap


def load_student(weights: Mapping[str, Tensor], card: Any) -> StudentHead:
    """The student head (`head.*`) of a distilled checkpoint; card: its `ModelCard` (unet and distill settings)."""
    own = {name.removeprefix("head."): value for name, value in weights.items() if name.startswith("head.")}
    if card.distill is None or not own:
        raise CheckpointError(
            "the checkpoint holds no student head: it was not distilled", remedy="pass a checkpoint written by distill"
        )
    try:
        with torch.device("meta"):
            network = UNet(card.unet)
            wanted = StudentHead.of(network, card.distill).state_dict()
        if {name: value.shape for name, value in wanted.items()} != {name: value.shape for name, value in own.items()}:
            raise ValueError("its weights have other names or shapes")
        head = StudentHead.of(network, card.distill)
        head.load_state_dict(own)
    except (ValueError, RuntimeError, KeyError, TypeError, IndexError, ZeroDivisionError) as cause:
        reason = next(iter(str(cause).splitlines()), type(cause).__name__)[:120]
        raise CheckpointError(
            f"the student head does not fit its card ({reason})", remedy="write the checkpoint again with distill"
        ) from cause
    return head.eval()
