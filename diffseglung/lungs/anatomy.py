"""Anatomy of a chest at 6 mm: room, body, right lung, left lung, airways.

Thresholds detect air only. Airless lung and its side, and whether air is bowel, gown or bulla, need anatomy. A 3D U-Net
(Cicek et al., MICCAI 2016, arXiv 1606.06650) learns it from chests varied more than patients vary (Billot et al., Med
Image Anal 2023;86:102789): `scripts/train_lung_finder.py`. No label of a pathology is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from diffseglung.case.resample import coarsened, lattice
from diffseglung.lungs.orientation import exchanged, field_around, with_weights
from diffseglung.method.checkpoint import sha256
from diffseglung.volume import Volume

WEIGHTS = Path(__file__).parents[1] / "weights" / "lung-finder.safetensors"
SPACING_MM = 6.0
WINDOWS_HU = ((-1000.0, 200.0), (-150.0, 150.0), (100.0, 800.0))
"""HU ranges of the input channels, each scaled to -1..1: lung, soft tissue with fat, bone."""
ROOM, BODY, RIGHT, LEFT, AIRWAY = range(5)
"""Classes. RIGHT and LEFT are sides of the patient, as in the lung mask; AIRWAY is trachea and main bronchi."""
CLASSES = 5
AIR_HU = -1000.0
DEEPEST = 16
"""Input voxels per voxel of the lowest level, along each axis."""
CHANNELS = (24, 48, 96, 96)
"""Channels of the levels at 12, 24, 48 and 96 mm."""


class AnatomyNet(nn.Module):
    """3D U-Net: HU windows (B, 3, Z, Y, X) to class logits (B, 5, Z, Y, X); sides are multiples of 16.

    Input and output are blocks of 2 x 2 x 2 voxels as channels, which is fast on a CPU.
    """

    def __init__(self, channels: tuple[int, ...] = CHANNELS) -> None:
        super().__init__()
        self.down = nn.ModuleList()
        before = 8 * len(WINDOWS_HU)
        for width in channels:
            self.down.append(_block(before, width))
            before = width
        pairs = list(zip(channels[:0:-1], channels[-2::-1], strict=True))
        self.thin = nn.ModuleList(nn.Conv3d(deep, wide, 1) for deep, wide in pairs)
        self.up = nn.ModuleList(_block(2 * wide, wide) for _, wide in pairs)
        self.head = nn.Conv3d(channels[0], 8 * CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits on the grid of the input."""
        x = _blocks(x)
        kept: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(nn.functional.max_pool3d(x, 2) if level else x)
            kept.append(x)
        for thin, block, skip in zip(self.thin, self.up, kept[-2::-1], strict=True):
            x = block(torch.cat([nn.functional.interpolate(thin(x), scale_factor=2.0), skip], 1))
        return _unblock(self.head(x))


@dataclass(frozen=True, eq=False)
class Anatomy:
    """classes: (5, Z, Y, X) probabilities on `grid`.  turns: probability of each of `orientation.EXCHANGES`."""

    classes: NDArray[np.float32]
    grid: Volume
    turns: tuple[float, float, float, float]

    @classmethod
    def of(cls, upright: Volume) -> Anatomy:
        """upright: HU, axes (Z, Y, X) to the head, the back and the left, any spacing."""
        coarse = coarsened(upright, lattice(upright, SPACING_MM, DEEPEST))
        hu = np.where(within_scan(upright, coarse), np.nan_to_num(coarse.array, nan=AIR_HU), np.float32(AIR_HU))
        padded = np.pad(hu, [(0, -n % DEEPEST) for n in hu.shape], constant_values=AIR_HU).astype(np.float32)
        seen = windows(torch.from_numpy(padded))
        with torch.inference_mode():  # with its mirror image: on a CPU two take little longer than one
            logits = _network()(torch.stack([seen, seen.flip(-1)]))
        there, mirror = torch.softmax(logits, 1)
        classes = (there + mirror.flip(-1)[[ROOM, BODY, LEFT, RIGHT, AIRWAY]]) / 2
        z, y, x = hu.shape
        classes = classes[:, :z, :y, :x]
        lungs = classes[[RIGHT, LEFT]].sum(0).numpy() > 0.5
        return cls(classes.numpy(), coarse, exchanged(field_around(seen[:, :z, :y, :x], lungs)))

    def onto(self, target: Volume) -> NDArray[np.float32]:
        """The probabilities on another grid of the same axes, (5, Z, Y, X): linear, constant beyond the ends."""
        values = self.classes
        for axis in (2, 1, 0):  # the slowest to index first, while the array is smallest
            n, count = self.grid.shape[axis], target.shape[axis]
            start = (target.first_mm[axis] - self.grid.first_mm[axis]) / self.grid.spacing_mm[axis]
            places = start + target.spacing_mm[axis] / self.grid.spacing_mm[axis] * np.arange(count)
            places = np.clip(places, 0, n - 1)
            before = np.minimum(places.astype(int), max(n - 2, 0))
            share = (places - before).astype(np.float32).reshape([-1 if i == axis + 1 else 1 for i in range(4)])
            low, high = (np.take(values, np.minimum(at, n - 1), axis + 1) for at in (before, before + 1))
            values = low + share * (high - low)
        return values


def windows(hu: Tensor) -> Tensor:
    """HU (..., Z, Y, X) -> (..., 3, Z, Y, X): the windows of WINDOWS_HU scaled to -1..1 and clipped.

    >>> windows(torch.full((1, 1, 1), -400.0)).flatten()
    tensor([ 0., -1., -1.])
    """
    return torch.stack([((hu - low) / (high - low) * 2 - 1).clamp(-1, 1) for low, high in WINDOWS_HU], -4)


def within_scan(volume: Volume, grid: Volume) -> NDArray[np.bool_]:
    """Whether voxels of a grid of the same axes have their centre in the volume; beyond it there is air."""
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
    return sha256(WEIGHTS)


@cache
def _network() -> AnatomyNet:
    return with_weights(AnatomyNet(), WEIGHTS)


def _blocks(x: Tensor) -> Tensor:
    """(B, C, 2Z, 2Y, 2X) -> (B, 8 C, Z, Y, X)."""
    b, c, z, y, x_ = x.shape
    parts = x.reshape(b, c, z // 2, 2, y // 2, 2, x_ // 2, 2).permute(0, 1, 3, 5, 7, 2, 4, 6)
    return parts.reshape(b, 8 * c, z // 2, y // 2, x_ // 2)


def _unblock(x: Tensor) -> Tensor:
    """(B, 8 C, Z, Y, X) -> (B, C, 2Z, 2Y, 2X)."""
    b, c, z, y, x_ = x.shape
    parts = x.reshape(b, c // 8, 2, 2, 2, z, y, x_).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return parts.reshape(b, c // 8, 2 * z, 2 * y, 2 * x_)


def _block(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (before, after):
        layers += [nn.Conv3d(width, after, 3, padding=1), nn.GroupNorm(8, after), nn.SiLU()]
    return nn.Sequential(*layers)
