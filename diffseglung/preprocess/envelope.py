"""Where a lung would be if it held air: a small network that knows the shape of lungs, for disease as dense as muscle.

Consolidation that touches the heart, the mediastinum or the diaphragm has no border that a threshold could see; what is
left is anatomy. A 3D U-Net (Cicek et al., MICCAI 2016, arXiv 1606.06650) on a grid of 5 mm learns lung masks from scans
whose lungs were partly filled at random. It sees no pathology labels. Its training is `scripts/train_lung_envelope.py`.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from diffseglung.preprocess.resample import coarsened, lattice, resample_onto
from diffseglung.volume import Volume

WEIGHTS = Path(__file__).parents[1] / "weights" / "lung-envelope.safetensors"
SPACING_MM = 5.0
WINDOWS_HU = ((-1000.0, 200.0), (-150.0, 150.0))
"""The HU ranges that become the two input channels, each -1..1: lung, and soft tissue."""
AIR_HU = -1000.0
DEEPEST = 8
"""Voxels of the input in one of the lowest level."""
CHANNELS = (32, 64, 96)
"""Of the levels of 10, 20 and 40 mm."""


class EnvelopeNet(nn.Module):
    """3D U-Net, HU windows (B, 2, Z, Y, X) to the logit of lung (B, 1, Z, Y, X); edges are multiples of 8.

    Blocks of 2 x 2 x 2 voxels enter and leave as channels, which makes it fast on a processor.
    """

    def __init__(self, channels: tuple[int, ...] = CHANNELS) -> None:
        super().__init__()
        self.down = nn.ModuleList()
        before = 8 * len(WINDOWS_HU)
        for width in channels:
            self.down.append(_block(before, width))
            before = width
        self.up = nn.ModuleList(
            _block(deep + wide, wide) for deep, wide in zip(channels[:0:-1], channels[-2::-1], strict=True)
        )
        self.head = nn.Conv3d(channels[0], 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits on the grid of the input."""
        x = _blocks(x)
        kept: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(nn.functional.max_pool3d(x, 2) if level else x)
            kept.append(x)
        for block, skip in zip(self.up, kept[-2::-1], strict=True):
            x = block(torch.cat([nn.functional.interpolate(x, scale_factor=2.0), skip], 1))
        return _unblock(self.head(x))


def windows(hu: Tensor) -> Tensor:
    """HU (..., Z, Y, X) -> (..., 2, Z, Y, X): the windows of WINDOWS_HU scaled to -1..1 and clipped."""
    return torch.stack([((hu - low) / (high - low) * 2 - 1).clamp(-1, 1) for low, high in WINDOWS_HU], -4)


def lung_envelope(upright: Volume) -> NDArray[np.float32]:
    """(Z, Y, X) probability (0..1) that a voxel is lung, aerated or not.

    upright: HU, axes (Z, Y, X) running to the head, the back and the left, any spacing.
    """
    coarse = coarsened(upright, lattice(upright, SPACING_MM, DEEPEST))
    hu = np.where(_within(upright, coarse), np.nan_to_num(coarse.array, nan=AIR_HU), np.float32(AIR_HU))
    spare = [(0, -n % DEEPEST) for n in hu.shape]
    padded = np.pad(hu, spare, mode="edge").astype(np.float32)
    with torch.inference_mode():
        logits = _network()(windows(torch.from_numpy(padded))[None])[0, 0]
    z, y, x = hu.shape
    lungs = torch.sigmoid(logits)[:z, :y, :x].numpy()
    return resample_onto(coarse.with_array(lungs), upright, fill=0.0).array


def _within(volume: Volume, grid: Volume) -> NDArray[np.bool_]:
    """Which voxels of a grid of the same axes have their centre in the volume: beyond it is air, not more tissue."""
    axes = []
    for first, step, n, start, mm, count in zip(
        grid.first_mm, grid.spacing_mm, grid.shape, volume.first_mm, volume.spacing_mm, volume.shape, strict=True
    ):
        places = (first - start + step * np.arange(n)) / mm
        axes.append((places >= -0.5) & (places < count - 0.5))
    return np.asarray(axes[0][:, None, None] & axes[1][:, None] & axes[2])


@cache
def weights_hash() -> str:
    """SHA-256 of the weights file, hexadecimal."""
    with WEIGHTS.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def _network() -> EnvelopeNet:
    from safetensors.torch import load_file

    network = EnvelopeNet().eval()
    network.load_state_dict({name: weight.float() for name, weight in load_file(WEIGHTS).items()})
    return network


def _blocks(x: Tensor) -> Tensor:
    """(B, C, 2Z, 2Y, 2X) -> (B, 8 C, Z, Y, X)."""
    b, c, z, y, x_ = x.shape
    parts = x.reshape(b, c, z // 2, 2, y // 2, 2, x_ // 2, 2).permute(0, 1, 3, 5, 7, 2, 4, 6)
    return parts.reshape(b, 8 * c, z // 2, y // 2, x_ // 2)


def _unblock(x: Tensor) -> Tensor:
    """(B, 8, Z, Y, X) -> (B, 1, 2Z, 2Y, 2X)."""
    b, _, z, y, x_ = x.shape
    parts = x.reshape(b, 1, 2, 2, 2, z, y, x_).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return parts.reshape(b, 1, 2 * z, 2 * y, 2 * x_)


def _block(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (before, after):
        layers += [nn.Conv3d(width, after, 3, padding=1), nn.GroupNorm(4, after), nn.SiLU()]
    return nn.Sequential(*layers)
