"""A 3D U-Net that predicts diffusion noise and hands out its inner features as an output, without hooks.

Layout after Ho et al. 2020 (App. B) as the published system uses it: residual blocks with the diffusion step added
between the convolutions, channels widening level by level, attention at the lowest level only. The lung mask is the
second input channel.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffseglung.config import UNetConfig


def step_embedding(fraction: Tensor, channels: int) -> Tensor:
    """Sinusoidal embedding of the diffusion step (Vaswani et al. 2017, sec. 3.5).

    fraction: (B,) step / T in [0, 1].  Returns (B, channels).
    """
    half = channels // 2
    frequency = torch.exp(-math.log(10000.0) * torch.arange(half, device=fraction.device) / half)
    angle = 1000.0 * fraction.float()[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def groups_of(channels: int) -> int:
    """Largest group count up to 8 that divides the channels."""
    return next(g for g in (8, 6, 4, 3, 2, 1) if channels % g == 0)


class ResidualBlock(nn.Module):
    """norm - SiLU - conv, step added, norm - SiLU - conv, plus the input."""

    def __init__(self, enter: int, leave: int, embedding: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(groups_of(enter), enter), nn.Conv3d(enter, leave, 3, padding=1)
        self.step = nn.Linear(embedding, leave)
        self.norm2, self.conv2 = nn.GroupNorm(groups_of(leave), leave), nn.Conv3d(leave, leave, 3, padding=1)
        self.skip = nn.Conv3d(enter, leave, 1) if enter != leave else nn.Identity()
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h: Tensor = self.conv1(F.silu(self.norm1(x)))  # (B, leave, Z, Y, X)
        h = h + self.step(F.silu(embedding))[:, :, None, None, None]
        h = self.conv2(F.silu(self.norm2(h)))  # (B, leave, Z, Y, X)
        skip: Tensor = self.skip(x)
        return skip + h


class Attention(nn.Module):
    """Self-attention over all positions of a small grid."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = next(h for h in range(min(heads, channels), 0, -1) if channels % h == 0)
        self.norm = nn.GroupNorm(groups_of(channels), channels)
        self.qkv, self.out = nn.Conv3d(channels, 3 * channels, 1), nn.Conv3d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        b, c, *grid = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, -1)  # (B, 3, H, C/H, N)
        q, k, v = qkv.transpose(-1, -2).unbind(1)  # each (B, H, N, C/H)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(-1, -2)  # (B, H, C/H, N)
        out: Tensor = self.out(mixed.reshape(b, c, *grid))
        return x + out


class UNet(nn.Module):
    """Input (B, 2, Z, Y, X): noisy CT in model units and lung mask. Output (B, 1, Z, Y, X).

    Sides must be multiples of `UNet.multiple`. Taps: `bottleneck` at 1/multiple resolution, `decoder` at the
    resolution of the first level (1/stem_stride), and one `level<i>` per decoder level above the bottleneck.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.base_channels * m for m in config.multipliers]
        embedding = 4 * config.base_channels
        stride, last = config.stem_stride, len(widths) - 1
        self.multiple = stride * 2**last
        self.tap_channels = {"bottleneck": widths[-1], "decoder": widths[0]}
        self.tap_strides = {"bottleneck": self.multiple, "decoder": stride}
        for i, width in enumerate(widths[:-1]):
            self.tap_channels[f"level{i}"], self.tap_strides[f"level{i}"] = width, stride * 2**i
        self.embed = nn.Sequential(
            nn.Linear(config.base_channels, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        kernel = 3 if stride == 1 else 2 * stride
        self.enter = nn.Conv3d(2, widths[0], kernel, stride=stride, padding=(kernel - stride + 1) // 2)
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        for i, width in enumerate(widths):
            blocks = [ResidualBlock(width, width, embedding) for _ in range(config.blocks)]
            self.down.append(nn.ModuleList(blocks))
            if i < last:
                self.shrink.append(nn.Conv3d(width, widths[i + 1], 2, stride=2))
        self.enter_middle = ResidualBlock(widths[-1], widths[-1], embedding)
        self.attention = Attention(widths[-1], config.heads)
        self.leave_middle = ResidualBlock(widths[-1], widths[-1], embedding)
        for i in reversed(range(last)):
            self.grow.append(nn.Conv3d(widths[i + 1], widths[i], 1))
            blocks = [
                ResidualBlock(2 * widths[i] if j == 0 else widths[i], widths[i], embedding)
                for j in range(config.blocks)
            ]
            self.up.append(nn.ModuleList(blocks))
        self.norm = nn.GroupNorm(groups_of(widths[0]), widths[0])
        self.leave = nn.Conv3d(widths[0], stride**3, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, fraction: Tensor) -> Tensor:
        """x (B, 2, Z, Y, X), fraction (B,) = step / T -> prediction (B, 1, Z, Y, X)."""
        return self.with_taps(x, fraction)[0]

    def with_taps(self, x: Tensor, fraction: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The prediction, and the activations named in `tap_channels`."""
        embedding = self.embed(step_embedding(fraction, self.config.base_channels).to(x.dtype))  # (B, 4C)
        h, skips, taps = self.enter(x), [], {}  # h (B, C, Z/s, Y/s, X/s)
        for i, blocks in enumerate(self.down):
            for block in blocks:  # type: ignore[attr-defined]
                h = block(h, embedding)
            if i < len(self.shrink):
                skips.append(h)
                h = self.shrink[i](h)
        h = self.attention(self.enter_middle(h, embedding))  # (B, C_last, Z/m, Y/m, X/m)
        taps["bottleneck"] = h = self.leave_middle(h, embedding)
        for i, (grow, blocks) in enumerate(zip(self.grow, self.up, strict=True)):
            level = len(skips) - 1 - i
            h = F.interpolate(grow(h), scale_factor=2, mode="nearest")
            h = torch.cat([h, skips[level]], dim=1)
            for block in blocks:  # type: ignore[attr-defined]
                h = block(h, embedding)
            taps[f"level{level}"] = h
        taps["decoder"] = h  # (B, C, Z/s, Y/s, X/s)
        return unshuffle(self.leave(F.silu(self.norm(h))), self.config.stem_stride), taps


def unshuffle(x: Tensor, stride: int) -> Tensor:
    """(B, s^3, Z, Y, X) -> (B, 1, sZ, sY, sX): each channel is one voxel of an s-cube."""
    if stride == 1:
        return x
    b, _, z, y, w = x.shape
    cubes = x.reshape(b, stride, stride, stride, z, y, w).permute(0, 4, 1, 5, 2, 6, 3)
    return cubes.reshape(b, 1, z * stride, y * stride, w * stride)


def parameter_count(network: nn.Module) -> int:
    """Number of learned values."""
    return sum(p.numel() for p in network.parameters())
