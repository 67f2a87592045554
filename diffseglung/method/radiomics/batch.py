"""The descriptors of many patches at once, on whatever device the tensors are: same numbers as `describe_patch`.

Agreement with the reference (float64) on real patches: within 1e-4 relative or 1e-5 absolute (measured: 2e-5 relative).
Patches go in groups: small ones on a processor, which stay in its cache and are spread over its cores.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffseglung.method.radiomics.firstorder import first_order_batch, tally
from diffseglung.method.radiomics.gabor import energy_maps
from diffseglung.method.radiomics.glcm import glcm_batch
from diffseglung.method.radiomics.lbp import BINS, codes_batch
from diffseglung.platform.config import RadiomicsConfig
from diffseglung.platform.runtime import spread

GROUP_VOXELS = 2**17
"""Voxels of a group of patches on a processor."""
MANY_VOXELS = 2**23
"""Voxels of a group on an accelerator."""


@torch.no_grad()
def describe_batch(hu: Tensor, lung: Tensor, config: RadiomicsConfig | None = None) -> Tensor:
    """Descriptors (B, 34) float32 of patches.

    hu: (B, Z, Y, X) in HU.  lung: (B, Z, Y, X), true or positive in the lung.
    """
    config = config or RadiomicsConfig()
    voxels = GROUP_VOXELS if hu.device.type == "cpu" else MANY_VOXELS
    size = max(1, voxels // max(1, hu[:1].numel()))
    groups = zip(torch.split(hu, size), torch.split(lung, size), strict=True)
    work = map if len(hu) <= size else spread
    return torch.cat(list(work(lambda group: _describe(group[0], group[1], config), groups)))


@torch.no_grad()
def _describe(hu: Tensor, lung: Tensor, config: RadiomicsConfig) -> Tensor:
    """`describe_batch` of one group."""
    with torch.autocast(hu.device.type, enabled=False):  # half precision would spoil counts and moments
        inside = (lung > 0) & (hu.abs() < torch.inf)  # finite, and quicker than isfinite
        clipped = torch.where(inside, hu.float(), config.low_hu).clamp_(config.low_hu, config.high_hu)
        first_order = first_order_batch(clipped, inside, config)
        mean = first_order[:, 0].nan_to_num().view(-1, 1, 1, 1)
        planes = _plane_descriptors(clipped, inside, mean, config)
        return torch.cat([first_order, glcm_batch(clipped, inside, config), planes], 1)


def _plane_descriptors(hu: Tensor, lung: Tensor, mean: Tensor, config: RadiomicsConfig) -> Tensor:
    """LBP shares and Gabor energies (B, 23), averaged over the axes whose planes hold lung.  mean: (B, 1, 1, 1)."""
    views = []
    for axis in (1, 2, 3):
        image, mask = hu.movedim(axis, 1), lung.movedim(axis, 1)  # (B, P, H, W)
        if config.planes == "middle":
            middle = image.shape[1] // 2
            image, mask = image[:, middle : middle + 1], mask[:, middle : middle + 1]
        views.append(((image - mean) * mask, mask))
    if len({mask.shape for _, mask in views}) == 1:  # a cube: all planes go together
        views = [(torch.cat([image for image, _ in views]), torch.cat([mask for _, mask in views]))]
    sums = torch.cat([_plane_sums(image, mask, config) for image, mask in views]).view(3, len(hu), -1)
    size = torch.cat([mask.flatten(1).sum(1) for _, mask in views]).view(3, len(hu), 1)
    return (sums / size.clamp(min=1)).sum(0) / (size > 0).sum(0)  # 0 / 0 makes NaN where no plane holds lung


def _plane_sums(image: Tensor, lung: Tensor, config: RadiomicsConfig) -> Tensor:
    """Sums over lung pixels (B, 23): 10 LBP codes, 12 Gabor energies and their mean.

    image: (B, P, H, W), centred.  lung: (B, P, H, W) bool.
    """
    planes, patches, side = image.flatten(0, 1), len(image), BINS + 1
    code = torch.where(lung, codes_batch(planes).view(lung.shape).int(), BINS)
    code += torch.arange(patches, dtype=torch.int32, device=code.device).view(-1, 1, 1, 1) * side
    shares = tally(code, patches * side).view(patches, side)[:, :BINS]
    weight = lung.flatten(0, 1).float()
    energy = torch.stack([(values * weight).sum((1, 2)) for values in energy_maps(planes, config)], 1)
    energy = energy.view(patches, -1, energy.shape[1]).sum(1)
    return torch.cat([shares, energy, energy.mean(1, keepdim=True)], 1)
