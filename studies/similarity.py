"""Similarity of images: PSNR, SSIM (Wang et al. 2004) and multi-scale SSIM (Wang, Simoncelli & Bovik 2003).

Images are (N, *space) of two or three spatial axes. Windows lie wholly inside the image, so a map is smaller than
its image by WINDOW - 1 along each axis.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from diffseglung.platform.errors import InputError

SIGMA, WINDOW = 1.5, 11
"""Gaussian window of Wang et al. 2004, sec. III.C."""
K1, K2 = 0.01, 0.03
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales, fine to coarse (Wang et al. 2003, sec. 3.2)."""


def psnr(a: Tensor, b: Tensor, *, data_range: float, where: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio in dB (N,), of the voxels `where` if given; infinite for equal images.

    NaN for an empty mask.
    """
    keep = torch.ones_like(a, dtype=torch.bool) if where is None else where > 0
    square = ((a.double() - b.double()) ** 2 * keep).flatten(1).sum(1) / keep.flatten(1).sum(1)
    return 10 * torch.log10(data_range**2 / square)


def ssim(a: Tensor, b: Tensor, *, data_range: float, where: Tensor | None = None) -> Tensor:
    """Mean SSIM (N,) (Wang et al. 2004, eqs. 13 and 17) of windows centred in the image, or on the voxels `where`."""
    luminance, structure = _maps(a, b, data_range)
    if where is None:
        return (luminance * structure).flatten(1).mean(1)
    edge = WINDOW // 2
    inner = (slice(None), *[slice(edge, -edge)] * (where.ndim - 1))
    keep = (where > 0)[inner]
    return ((luminance * structure) * keep).flatten(1).sum(1) / keep.flatten(1).sum(1)


def ms_ssim(a: Tensor, b: Tensor, *, data_range: float) -> Tensor:
    """Multi-scale SSIM (N,) (Wang et al. 2003, eq. 7), with as many of its five scales as the image size allows.

    The exponents of the remaining scales are normalised to sum 1. Negative structure counts as 0: it has no root.
    """
    weights = SCALE_WEIGHTS[: scales(tuple(a.shape[1:]))]
    pool = F.avg_pool2d if a.ndim == 3 else F.avg_pool3d
    total = torch.ones(len(a), dtype=torch.float64, device=a.device)
    for level, weight in enumerate(weights):
        if level:
            a, b = (pool(image[:, None], 2)[:, 0] for image in (a, b))
        luminance, structure = _maps(a, b, data_range)
        last = level == len(weights) - 1
        here = ((luminance * structure) if last else structure).flatten(1).mean(1)
        total = total * here.clamp(min=0) ** (weight / sum(weights))
    return total


def scales(shape: tuple[int, ...]) -> int:
    """Scales of MS-SSIM that an image of this shape allows; InputError for one smaller than the window."""
    if len(shape) not in (2, 3) or min(shape) < WINDOW:
        raise InputError(f"SSIM has no window in an image of {shape}", remedy=f"give sides of at least {WINDOW} voxels")
    return min(int(math.log2(min(shape) / WINDOW)) + 1, len(SCALE_WEIGHTS))


def _maps(a: Tensor, b: Tensor, data_range: float) -> tuple[Tensor, Tensor]:
    """Luminance term l, and contrast and structure together cs, with l * cs = SSIM; float64."""
    scales(tuple(a.shape[1:]))
    a, b = a.double(), b.double()
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    mean_a, mean_b = _smooth(a), _smooth(b)
    var_a, var_b = _smooth(a * a) - mean_a**2, _smooth(b * b) - mean_b**2
    covariance = _smooth(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return luminance, (2 * covariance + c2) / (var_a + var_b + c2)


def _smooth(image: Tensor) -> Tensor:
    """Gaussian mean over the window, one axis after the other."""
    offset = torch.arange(WINDOW, dtype=image.dtype, device=image.device) - WINDOW // 2
    kernel = torch.exp(-(offset**2) / (2 * SIGMA**2))
    kernel = kernel / kernel.sum()
    for axis in range(1, image.ndim):
        image = image.unfold(axis, WINDOW, 1) @ kernel
    return image
