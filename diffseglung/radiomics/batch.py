"""The descriptors of many patches at once, on whatever device the tensors are: same numbers as `describe_patch`.

Agreement with the reference (float64) on real patches: within 1e-4 relative or 1e-5 absolute (measured: 2e-5 relative).
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffseglung.config import RadiomicsConfig
from diffseglung.radiomics.firstorder import first_order_batch
from diffseglung.radiomics.gabor import energy_maps
from diffseglung.radiomics.glcm import glcm_batch
from diffseglung.radiomics.lbp import BINS, codes_batch


@torch.no_grad()
def describe_batch(hu: Tensor, lung: Tensor, config: RadiomicsConfig | None = None) -> Tensor:
    """Descriptors (B, 34) float32 of patches.

    hu: (B, Z, Y, X) in HU.  lung: (B, Z, Y, X), true or positive in the lung.
    """
    config = config or RadiomicsConfig()
    with torch.autocast(hu.device.type, enabled=False):  # half precision would spoil counts and moments
        inside = (lung > 0) & torch.isfinite(hu)
        clipped = torch.where(inside, hu.float(), config.low_hu).clamp(config.low_hu, config.high_hu)
        first_order = first_order_batch(clipped, inside, config)
        mean = first_order[:, 0].nan_to_num().view(-1, 1, 1, 1)
        centred = (clipped - mean) * inside
        return torch.cat(
            [first_order, glcm_batch(clipped, inside, config), _plane_descriptors(centred, inside, config)], 1
        )


def _plane_descriptors(centred: Tensor, lung: Tensor, config: RadiomicsConfig) -> Tensor:
    """LBP shares and Gabor energies (B, 23), averaged over the axes whose planes hold lung."""
    total, axes = torch.zeros((), device=centred.device), torch.zeros(len(centred), device=centred.device)
    for axis in (1, 2, 3):
        image, mask = centred.movedim(axis, 1), lung.movedim(axis, 1)  # (B, P, H, W)
        if config.planes == "middle":
            middle = image.shape[1] // 2
            image, mask = image[:, middle : middle + 1], mask[:, middle : middle + 1]
        weight = mask.flatten(1).float()  # (B, N)
        size = weight.sum(1)
        sums = _plane_sums(image, weight, config)
        total = total + sums / size.clamp(min=1)[:, None]
        axes += size > 0
    return total / axes[:, None]  # 0 / 0 makes NaN where no plane holds lung


def _plane_sums(image: Tensor, weight: Tensor, config: RadiomicsConfig) -> Tensor:
    """Sums over lung pixels (B, 23): 10 LBP codes, 12 Gabor energies and their mean.

    image: (B, P, H, W).  weight: (B, P * H * W), 1 in the lung.
    """
    planes = image.flatten(0, 1)
    code = codes_batch(planes).view(weight.shape)
    shares = torch.stack([((code == k) * weight).sum(1) for k in range(BINS)], 1)
    energy = torch.stack([(map.view(weight.shape) * weight).sum(1) for map in energy_maps(planes, config)], 1)
    return torch.cat([shares, energy, energy.mean(1, keepdim=True)], 1)
