"""A 3D U-Net that predicts diffusion noise and returns its inner features, without hooks.

Residual blocks with the diffusion step added between the convolutions, channels widening level by level, attention at
the lowest level only (Ho et al. 2020, App. B). The lung mask is the second input channel. `dense_skips` is their
decoder, as in the published system: every encoder activation is a skip connection. Without it, each level has one skip
connection and cheap resampling, at a third of the arithmetic.

>>> from diffseglung.platform.config import UNETS
>>> network = UNet(UNETS["tiny"])
>>> predicted, taps = network.with_taps(torch.zeros(1, 2, 8, 16, 16), torch.tensor([0.5]))
>>> predicted.shape, sorted(taps)
(torch.Size([1, 1, 8, 16, 16]), ['bottleneck', 'decoder', 'level0'])
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from diffseglung.platform.config import UNetConfig
from diffseglung.platform.errors import InputError
from diffseglung.volume import Shape


class Conv3d(nn.Conv3d):
    """`nn.Conv3d`, in float32 where a CPU would train it in bfloat16 on a grid two voxels deep.

    There oneDNN's bfloat16 weight gradient reads uninitialised memory (seen with PyTorch 2.13 on a processor with
    AVX512-BF16: errors of order one, sometimes NaN). These are the smallest grids of the network, so the cost is nil.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Z, Y, X) -> (B, C', Z', Y', X')."""
        if x.shape[2] == 2 and x.device.type == "cpu" and torch.is_autocast_enabled("cpu") and torch.is_grad_enabled():
            with torch.autocast("cpu", enabled=False):
                return super().forward(x.float())
        return super().forward(x)


def step_embedding(fraction: Tensor, channels: int) -> Tensor:
    """Sinusoidal embedding of the diffusion step (Vaswani et al. 2017, sec. 3.5).

    fraction: (B,) step / T in [0, 1].  Returns (B, channels).
    """
    half = channels // 2
    frequency = torch.exp(-math.log(10000.0) * torch.arange(half, device=fraction.device) / half)
    angle = 1000.0 * fraction.float()[:, None] * frequency
    return F.pad(torch.cat([angle.sin(), angle.cos()], dim=1), (0, channels - 2 * half))


def groups_of(channels: int) -> int:
    """Largest group count up to 8 that divides the channels."""
    return next(g for g in (8, 6, 4, 3, 2, 1) if channels % g == 0)


class ResidualBlock(nn.Module):
    """norm - SiLU - conv, plus step, norm - SiLU - conv, plus input."""

    def __init__(self, enter: int, leave: int, embedding: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(groups_of(enter), enter), Conv3d(enter, leave, 3, padding=1)
        self.step = nn.Linear(embedding, leave)
        self.norm2, self.conv2 = nn.GroupNorm(groups_of(leave), leave), Conv3d(leave, leave, 3, padding=1)
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
        q, k, v = qkv.transpose(-1, -2).contiguous().unbind(1)  # each (B, H, N, C/H), as fused kernels need it
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(-1, -2)  # (B, H, C/H, N)
        out: Tensor = self.out(mixed.reshape(b, c, *grid))
        return x + out


class AttendingBlock(ResidualBlock):
    """A residual block followed by attention."""

    def __init__(self, enter: int, leave: int, embedding: int, *, heads: int) -> None:
        super().__init__(enter, leave, embedding)
        self.attention = Attention(leave, heads)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        out: Tensor = self.attention(super().forward(x, embedding))
        return out


class UNet(nn.Module):
    """Input (B, 2, Z, Y, X): noisy CT in model units and lung mask. Output (B, 1, Z, Y, X).

    Sides must be multiples of `UNet.multiple`. Taps: `bottleneck` at 1/multiple resolution, `decoder` at the
    resolution of the first level (1/stem_stride), and one `level<i>` per decoder level above the bottleneck.
    `recompute` saves memory in training at the cost of a second forward pass.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config, self.recompute = config, False
        self.widths = widths = [config.base_channels * m for m in config.multipliers]
        embedding, stride = 4 * config.base_channels, config.stem_stride
        self.multiple = stride * 2 ** (len(widths) - 1)
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
        self._make_encoder()
        self.enter_middle = ResidualBlock(widths[-1], widths[-1], embedding)
        self.attention = Attention(widths[-1], config.heads)
        self.leave_middle = ResidualBlock(widths[-1], widths[-1], embedding)
        self._make_decoder()
        self.norm = nn.GroupNorm(groups_of(widths[0]), widths[0])
        self.leave = Conv3d(widths[0], stride**3, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def _make_encoder(self) -> None:
        """`down`, the blocks of each level, and `shrink`, the downsampling to the next."""
        widths, dense = self.widths, self.config.dense_skips
        for i, width in enumerate(widths):
            before = widths[max(i - 1, 0)] if dense else width
            self.down.append(self._level(i, [before, *[width] * (self.config.blocks - 1)]))
            if i < len(widths) - 1 and dense:
                self.shrink.append(nn.Conv3d(width, width, 3, stride=2, padding=1))
            elif i < len(widths) - 1:
                self.shrink.append(nn.Conv3d(width, widths[i + 1], 2, stride=2))

    def _make_decoder(self) -> None:
        """`up`, the blocks of each level from the bottom, and `grow`, the upsampling to the level above."""
        widths, blocks, last = self.widths, self.config.blocks, len(self.widths) - 1
        if not self.config.dense_skips:
            for i in reversed(range(last)):
                self.grow.append(nn.Conv3d(widths[i + 1], widths[i], 1))
                self.up.append(self._level(i, [2 * widths[i], *[widths[i]] * (blocks - 1)]))
            return
        skips = [widths[0]]
        for i, width in enumerate(widths):
            skips += [width] * (blocks + (i < last))
        below = widths[-1]
        for i in reversed(range(last + 1)):
            carried = [below, *[widths[i]] * blocks]
            self.up.append(self._level(i, [width + skips.pop() for width in carried]))
            below = widths[i]
            if i > 0:
                self.grow.append(nn.Conv3d(below, below, 3, padding=1))

    def _level(self, i: int, enters: list[int]) -> nn.ModuleList:
        """The blocks of level i with `enters` input channels each."""
        embedding, width, config = 4 * self.config.base_channels, self.widths[i], self.config
        if config.dense_skips and i == len(self.widths) - 1:
            return nn.ModuleList(AttendingBlock(n, width, embedding, heads=config.heads) for n in enters)
        return nn.ModuleList(ResidualBlock(n, width, embedding) for n in enters)

    def forward(self, x: Tensor, fraction: Tensor) -> Tensor:
        """x (B, 2, Z, Y, X), fraction (B,) = step / T -> prediction (B, 1, Z, Y, X)."""
        return self.with_taps(x, fraction)[0]

    def with_taps(self, x: Tensor, fraction: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The prediction, and the activations named in `tap_channels`."""
        if any(side % self.multiple for side in x.shape[2:]):
            raise InputError(
                f"a patch of {' x '.join(map(str, x.shape[2:]))} voxels does not fit the network",
                remedy=f"choose patch and tile sides that are multiples of {self.multiple}",
            )
        embedding = self.embed(step_embedding(fraction, self.config.base_channels).to(x.dtype))  # (B, 4C)
        h, skips = self._encode(self.enter(x), embedding)  # (B, C_last, Z/m, Y/m, X/m)
        h = self.attention(self._run(self.enter_middle, h, embedding))
        h = self._run(self.leave_middle, h, embedding)
        taps = {"bottleneck": h}
        decode = self._decode_dense if self.config.dense_skips else self._decode
        taps["decoder"] = h = decode(h, skips, embedding, taps)  # (B, C, Z/s, Y/s, X/s)
        return unshuffle(self.leave(F.silu(self.norm(h))), self.config.stem_stride), taps

    def _run(self, block: nn.Module, h: Tensor, embedding: Tensor) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            out: Tensor = checkpoint(block, h, embedding, use_reentrant=False)
        else:
            out = block(h, embedding)
        return out

    def _encode(self, h: Tensor, embedding: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Down all levels, and the skip connections: every activation, or the last of each level but the lowest."""
        dense = self.config.dense_skips
        skips = [h] if dense else []
        for i, blocks in enumerate(self.down):
            for block in blocks:  # type: ignore[attr-defined]
                h = self._run(block, h, embedding)
                skips += [h] if dense else []
            if i < len(self.shrink):
                skips += [] if dense else [h]
                h = self.shrink[i](h)  # (B, C_i+1, Z/2, Y/2, X/2)
                skips += [h] if dense else []
        return h, skips

    def _decode(self, h: Tensor, skips: list[Tensor], embedding: Tensor, taps: dict[str, Tensor]) -> Tensor:
        """Up all levels, one skip connection each; adds the taps of the levels."""
        for grow, blocks in zip(self.grow, self.up, strict=True):
            h = F.interpolate(grow(h), scale_factor=2, mode="nearest")
            h = torch.cat([h, skips.pop()], dim=1)
            for block in blocks:  # type: ignore[attr-defined]
                h = self._run(block, h, embedding)
            taps[f"level{len(skips)}"] = h
        return h

    def _decode_dense(self, h: Tensor, skips: list[Tensor], embedding: Tensor, taps: dict[str, Tensor]) -> Tensor:
        """Up all levels, one skip connection per block; adds the taps of the levels."""
        last = len(self.widths) - 1
        for i, blocks in enumerate(self.up):
            for block in blocks:  # type: ignore[attr-defined]
                h = self._run(block, torch.cat([h, skips.pop()], dim=1), embedding)
            if i > 0:
                taps[f"level{last - i}"] = h
            if i < last:
                h = self.grow[i](F.interpolate(h, scale_factor=2, mode="nearest"))
        return h


def unshuffle(x: Tensor, stride: int) -> Tensor:
    """(B, s^3, Z, Y, X) -> (B, 1, sZ, sY, sX): each channel is one voxel of an s-cube."""
    if stride == 1:
        return x
    b, _, z, y, w = x.shape
    cubes = x.reshape(b, stride, stride, stride, z, y, w).permute(0, 4, 1, 5, 2, 6, 3)
    return cubes.reshape(b, 1, z * stride, y * stride, w * stride)


WORKSPACE = 2.0
"""Memory of a call relative to the outputs of its layers: kernels need inputs and buffers. Measured calls of the named
networks took 0.5 to 1.7 times those outputs on a CPU (`studies.speed.network`, docs/performance.md)."""


def call_bytes(config: UNetConfig, tile: Shape) -> int:
    """Approximate upper bound of the bytes of one call on one tile (Z, Y, X) in float32, without computing it."""
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
