"""Sobel-Diffusion Fusion: sharpen class borders with the CT's own edges.

The published system names this step and never released it; this is ours. The class posterior comes from a coarse
feature grid. (1) It is brought to the voxel grid. (2) Its logarithm diffuses for a few steps with the conductance

    g = exp(-(|grad HU| / edge_hu)^2 min(1, |grad p| / EDGE_POSTERIOR)^2)     (after Perona & Malik 1990, eq. 7)

so that a border is where both Sobel gradients are, that of the CT and that of the posterior: opinions flow up to it and
not across, but along vessels within one tissue they flow freely. (3) Near borders between classes, and only there,
each voxel's own HU joins as evidence for the classes that meet there. Applied everywhere, or for every class, it would
make consolidation of each vessel; and an HU that fits none of the classes in question tells nothing, so their
distributions have heavy tails.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

EPSILON = 1e-4
EDGE_POSTERIOR = 0.1
"""Sobel gradient of the posterior (a voxel) from which on it counts as a full edge."""
TAIL, TAIL_RANGE_HU = 0.1, 1200.0
"""Share of a tissue's voxels whose HU may be anything, and the range they may take."""
ABSENT = -30.0


@dataclass(frozen=True)
class FusionConfig:
    """steps: of diffusion; edge_hu: Sobel gradient (HU a voxel) at which conductance is 1/e on a full posterior edge;
    evidence: weight of HU; border_mm: how far from a border HU counts."""

    steps: int = 8
    edge_hu: float = 120.0
    evidence: float = 1.0
    border_mm: float = 4.0


def to_voxels(posterior: NDArray[np.float32], stride: int, shape: tuple[int, int, int]) -> Tensor:
    """Posterior (C, z, y, x) of cells of `stride` voxels on the voxel grid, (C, Z, Y, X), linear between cell centres.

    Cells that hold no lung (all zero) do not count: the classes are renormalised to sum to 1.
    """
    grid = torch.from_numpy(posterior)[None]
    full = F.interpolate(grid, scale_factor=stride, mode="trilinear", align_corners=False)[0]
    full = full[:, : shape[0], : shape[1], : shape[2]]
    return full / full.sum(0, keepdim=True).clamp(min=1e-6)


def sobel_magnitude(hu: NDArray[np.float32]) -> NDArray[np.float32]:
    """Gradient magnitude in HU a voxel, by 3 x 3 x 3 Sobel filters scaled to the unit ramp."""
    total = np.zeros(hu.shape, np.float32)
    for axis in range(3):
        total += (ndimage.sobel(hu, axis) / 32.0) ** 2
    return np.sqrt(total)


def diffuse(log_posterior: Tensor, conductance: Tensor, steps: int) -> Tensor:
    """Explicit edge-stopping diffusion of (C, Z, Y, X) over the six faces, zero flux at the border (step 1/7)."""
    u = log_posterior
    for _ in range(steps):
        change = torch.zeros_like(u)
        for axis in (1, 2, 3):
            length = u.shape[axis]
            low, high = u.narrow(axis, 0, length - 1), u.narrow(axis, 1, length - 1)
            face = torch.minimum(
                conductance.narrow(axis - 1, 0, length - 1), conductance.narrow(axis - 1, 1, length - 1)
            )
            flow = (high - low) * face / 7.0
            change.narrow(axis, 0, length - 1).add_(flow)
            change.narrow(axis, 1, length - 1).sub_(flow)
        u = u + change
    return u


def hu_evidence(hu: Tensor, posterior: Tensor, lungs: Tensor, prior_hu: Tensor, prior_sd: Tensor) -> Tensor:
    """Log-likelihood of each voxel's HU under each class in this scan, (C, Z, Y, X).

    A class is a normal distribution with a uniform tail. Its mean and spread come from its confident voxels, shrunk
    towards `prior_hu`, `prior_sd` (C,) by 2000 voxels.
    """
    out = torch.empty_like(posterior)
    for c in range(len(posterior)):
        sure = hu[lungs & (posterior[c] > 0.8)]
        n, weight = len(sure), 2000.0
        mean = (sure.sum() + weight * prior_hu[c]) / (n + weight)
        spread = ((sure - mean).square().sum() + weight * prior_sd[c] ** 2) / (n + weight)
        normal = -0.5 * (hu - mean).square() / spread - 0.5 * (2 * math.pi * spread).log()
        out[c] = torch.logaddexp(normal + math.log(1 - TAIL), torch.tensor(math.log(TAIL / TAIL_RANGE_HU)))
    return out


def classes_nearby(top: NDArray[np.int64], lungs: NDArray[np.bool_], classes: int, reach: int) -> Tensor:
    """(C, Z, Y, X): whether a lung voxel within `reach` voxels (a cube) has that class on top."""
    size = 2 * reach + 1
    return torch.stack(
        [
            torch.from_numpy(ndimage.maximum_filter(((top == c) & lungs).view(np.uint8), size) > 0)
            for c in range(classes)
        ]
    )


PRIOR_HU = torch.tensor([-855.0, -940.0, -600.0, -650.0, -60.0])
PRIOR_SD = torch.tensor([60.0, 30.0, 120.0, 220.0, 130.0])
"""Aligned HU of each tissue before a scan is seen, in the order of `labels.TISSUES`."""


def fuse(
    coarse: NDArray[np.float32], stride: int, hu: NDArray[np.float32], lungs: NDArray[np.bool_],
    *, spacing_mm: float, config: FusionConfig | None = None,
) -> Tensor:  # fmt: skip
    """Class posterior (C, Z, Y, X) on the voxel grid from the coarse one (C, z, y, x) and aligned HU."""
    config = config or FusionConfig()
    posterior = to_voxels(coarse, stride, hu.shape)
    inside = torch.from_numpy(lungs)
    conductance = border_conductance(hu, posterior, config) * inside
    logits = diffuse((posterior + EPSILON).log(), conductance, config.steps)
    posterior = logits.softmax(0)
    reach = max(1, round(config.border_mm / spacing_mm))
    nearby = classes_nearby(posterior.argmax(0).numpy(), lungs, len(posterior), reach)
    border = nearby.sum(0) > 1
    smooth = torch.from_numpy(ndimage.median_filter(hu, 3) if border.any() else hu)
    evidence = hu_evidence(smooth, posterior, inside, PRIOR_HU, PRIOR_SD)
    contested = torch.where(nearby, logits + config.evidence * evidence, torch.tensor(ABSENT))
    return torch.where(border[None], contested, logits).softmax(0)


def border_conductance(hu: NDArray[np.float32], posterior: Tensor, config: FusionConfig) -> Tensor:
    """g of the module's text, (Z, Y, X), from aligned HU and the posterior (C, Z, Y, X)."""
    edges = torch.from_numpy(sobel_magnitude(ndimage.gaussian_filter(hu, 0.7))) / config.edge_hu
    change = sum(torch.from_numpy(sobel_magnitude(p.numpy())).square() for p in posterior)
    contested = (torch.as_tensor(change).sqrt() / EDGE_POSTERIOR).clamp(max=1)
    return torch.exp(-((edges * contested) ** 2))
