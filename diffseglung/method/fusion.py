"""Sobel-Diffusion Fusion: sharpen class borders with the CT's own edges.

The paper names this step without releasing it; this is an independent design. The class posterior on a coarse feature
grid is (1) interpolated to the voxel grid. (2) Its logarithm diffuses for a few steps with the conductance

    g = exp(-(|grad HU| / edge_hu)^2 min(1, |grad p| / EDGE_POSTERIOR)^2)     (after Perona & Malik 1990, eq. 7)

so that a border needs both Sobel gradients, that of the CT and that of the posterior: probability flows up to it but
not across it, and flows freely along vessels within one tissue. (3) Near borders between classes, and only there, each
voxel's HU is added as evidence for the classes that meet. Applied everywhere, or for every class, this would turn
vessels into consolidation; and an HU that fits none of the classes in question is no evidence, so their distributions
have heavy tails. Fibrosis is texture, dark cells between bright strands: the HU of one voxel is no evidence for or
against it and only divides the remainder among the other classes.
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

from diffseglung.case.alignment import median_at
from diffseglung.case.positions import middle
from diffseglung.labels import FIBROSIS, TISSUES
from diffseglung.platform.config import FusionConfig

EPSILON = 1e-4
EDGE_POSTERIOR = 0.1
"""Sobel gradient of the posterior (per voxel) above which it counts as a full edge."""
TAIL, TAIL_RANGE_HU = 0.1, 1200.0
"""Share of a tissue's voxels whose HU is uniformly distributed, and the range of that distribution in HU."""
ABSENT = -30.0
TEXTURE = TISSUES.index(FIBROSIS)
"""The class that the HU of a single voxel cannot identify."""
EDGE_SIGMA = 0.7
"""Gaussian sigma in voxels, before gradients are taken and the HU of tissues estimated."""


def to_voxels(posterior: NDArray[np.float32], stride: int, shape: tuple[int, int, int]) -> Tensor:
    """Posterior (C, z, y, x) of cells of `stride` voxels on the voxel grid, (C, Z, Y, X), linear between positions.

    A cell's value lies at its described voxel (`case.positions.middle`). Cells without lung (all zero) are ignored: the
    classes are renormalised to sum to 1.
    """
    grid = F.pad(torch.from_numpy(posterior)[None], (1,) * 6, mode="replicate")
    size = [(n - 1) * stride + 1 for n in grid.shape[2:]]
    full = F.interpolate(grid, size=size, mode="trilinear", align_corners=True)[0]
    z, y, x = (slice(stride - middle(stride), stride - middle(stride) + n) for n in shape)
    full = full[:, z, y, x]
    return full.div_(full.sum(0, keepdim=True).clamp_(min=1e-6))


def most_probable(posterior: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Class of highest posterior (C, ...) at each voxel, the first of equals; much faster than argmax.

    >>> most_probable(np.array([[0.2, 0.5], [0.8, 0.5]], np.float32))
    array([1, 0], dtype=uint8)
    """
    best, top = posterior[0].copy(), np.zeros(posterior.shape[1:], np.uint8)
    for c in range(1, len(posterior)):
        np.copyto(top, c, where=posterior[c] > best)
        np.maximum(best, posterior[c], out=best)
    return top


def sobel_magnitude(hu: NDArray[np.float32]) -> NDArray[np.float32]:
    """Gradient magnitude in HU per voxel, by 3 x 3 x 3 Sobel filters scaled to a unit ramp."""
    total = np.zeros(hu.shape, np.float32)
    for axis in range(3):
        total += (ndimage.sobel(hu, axis) / 32.0) ** 2
    return np.sqrt(total)


def diffuse(log_posterior: Tensor, conductance: Tensor, steps: int) -> Tensor:
    """Explicit edge-stopping diffusion of (C, Z, Y, X) through the six faces, no flux at the border (time step 1/7)."""
    u, faces = log_posterior.clone(), []
    for axis in (0, 1, 2):
        length = conductance.shape[axis]
        face = torch.minimum(conductance.narrow(axis, 0, length - 1), conductance.narrow(axis, 1, length - 1))
        faces.append(face / 7.0)
    for channel in u:  # one at a time, to stay in the cache
        for _ in range(steps):
            change = torch.zeros_like(channel)
            for axis, face in enumerate(faces):
                length = channel.shape[axis]
                flow = torch.diff(channel, dim=axis).mul_(face)
                change.narrow(axis, 0, length - 1).add_(flow)
                change.narrow(axis, 1, length - 1).sub_(flow)
            channel += change
    return u


@dataclass(frozen=True, eq=False)
class HuLikelihood:
    """HU of tissues in one scan: normal distributions with a uniform tail.  mean, sd: (C,) aligned HU."""

    mean: Tensor
    sd: Tensor

    @classmethod
    def of(cls, hu: Tensor, posterior: Tensor, lungs: Tensor) -> HuLikelihood:
        """From the confident voxels of each class, shrunk towards `PRIOR_HU` and `PRIOR_SD` by 2000 voxels."""
        mean, spread, weight = PRIOR_HU.clone(), PRIOR_SD.square(), 2000.0
        for c in range(len(posterior)):
            sure = hu[lungs & (posterior[c] > 0.8)].numpy().astype(np.float64)  # sums independent of the thread count
            n = len(sure)
            mean[c] = (sure.sum() + weight * PRIOR_HU[c]) / (n + weight)
            spread[c] = (np.square(sure - float(mean[c])).sum() + weight * PRIOR_SD[c] ** 2) / (n + weight)
        return cls(mean, spread.sqrt())

    def log(self, hu: Tensor) -> Tensor:
        """Log-likelihood (C, N) of HU (N,) under each class."""
        z = (hu[None] - self.mean[:, None]) / self.sd[:, None]
        normal = -0.5 * z.square() - (math.sqrt(2 * math.pi) * self.sd[:, None]).log()
        return torch.logaddexp(normal + math.log(1 - TAIL), torch.tensor(math.log(TAIL / TAIL_RANGE_HU)))


def neutral(evidence: Tensor, posterior: Tensor, label: int) -> Tensor:
    """Log-likelihood (N,) that leaves a class's share unchanged: the posterior-weighted mean likelihood of the others.

    evidence, posterior: (C, N).  Where the others have no probability, the evidence is 0.
    """
    weight = posterior.clone()
    weight[label] = 0
    total = weight.sum(0)
    mean = torch.logsumexp(evidence + (weight / total.clamp(min=EPSILON)).log(), dim=0)
    return torch.where(total > EPSILON, mean, torch.zeros_like(mean))


def classes_nearby(top: NDArray[np.uint8], lungs: NDArray[np.bool_], classes: int, reach: int) -> Tensor:
    """(C, Z, Y, X): whether that class is most probable in a lung voxel within `reach` voxels (a cube)."""
    size = 2 * reach + 1
    return torch.stack(
        [
            torch.from_numpy(ndimage.maximum_filter(((top == c) & lungs).view(np.uint8), size) > 0)
            for c in range(classes)
        ]
    )


PRIOR_HU = torch.tensor([-855.0, -940.0, -600.0, -650.0, -60.0])
PRIOR_SD = torch.tensor([60.0, 30.0, 120.0, 220.0, 130.0])
"""Prior aligned HU of each tissue, in the order of `labels.TISSUES`."""


def fuse(
    coarse: NDArray[np.float32], stride: int, hu: NDArray[np.float32], lungs: NDArray[np.bool_],
    *, spacing_mm: float, config: FusionConfig | None = None,
) -> Tensor:  # fmt: skip
    """Class posterior (C, Z, Y, X) on the voxel grid from the coarse one (C, z, y, x) and aligned HU."""
    config = config or FusionConfig()
    posterior = to_voxels(coarse, stride, hu.shape)
    inside = torch.from_numpy(lungs)
    conductance = border_conductance(hu, posterior, config) * inside
    logits = diffuse(posterior.add_(EPSILON).log_(), conductance, config.steps)
    posterior = logits.softmax(0)
    reach = max(1, round(config.border_mm / spacing_mm))
    nearby = classes_nearby(most_probable(posterior.numpy()), lungs, len(posterior), reach)
    border = (nearby.sum(0) > 1) & inside
    voxels = border.nonzero().numpy()
    if len(voxels):
        likelihood = HuLikelihood.of(torch.from_numpy(ndimage.gaussian_filter(hu, EDGE_SIGMA)), posterior, inside)
        evidence = likelihood.log(torch.from_numpy(median_at(hu, voxels)))
        evidence[TEXTURE] = neutral(evidence, posterior[:, border] * nearby[:, border], TEXTURE)
        contested = logits[:, border] + config.evidence * evidence
        logits[:, border] = torch.where(nearby[:, border], contested, torch.tensor(ABSENT))
    return logits.softmax(0)


def border_conductance(hu: NDArray[np.float32], posterior: Tensor, config: FusionConfig) -> Tensor:
    """Conductance g, (Z, Y, X), from aligned HU and the posterior (C, Z, Y, X)."""
    edges = torch.from_numpy(sobel_magnitude(ndimage.gaussian_filter(hu, EDGE_SIGMA))) / config.edge_hu
    change = sum(torch.from_numpy(sobel_magnitude(p.numpy())).square() for p in posterior)
    contested = (torch.as_tensor(change).sqrt() / EDGE_POSTERIOR).clamp(max=1)
    return torch.exp(-((edges * contested) ** 2))
