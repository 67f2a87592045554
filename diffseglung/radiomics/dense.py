"""One descriptor vector per feature-grid position: what a `window` cube around it looks like.

Position (i, j, k) stands for the cell of stride^3 voxels that starts at (i, j, k) * stride; its window has the same
centre (rounded down where window - stride is odd). HU statistics and co-occurrence are exactly `describe_batch` of the
window cut out of the scan. LBP and Gabor differ from it in three ways, all to their benefit on small windows: filters
see the scan beyond the window instead of a filled border; all planes of the window count, not the three middle ones;
and voxels off the lung count as the mean of the lung nearby (a 15-voxel box) instead of the mean of the patch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from diffseglung.config import RadiomicsConfig
from diffseglung.errors import ConfigError
from diffseglung.radiomics.descriptor import descriptor_names
from diffseglung.radiomics.firstorder import first_order_batch
from diffseglung.radiomics.gabor import energy_maps
from diffseglung.radiomics.glcm import glcm_batch
from diffseglung.radiomics.lbp import BINS, codes_batch

SLAB = 48
"""Thickness in voxels of the part of a scan whose filter maps are in memory at once."""
CHUNK_VOXELS = 262_144
"""Voxels of all windows described at once."""


@torch.no_grad()
def describe_dense(
    hu: Tensor, lung: Tensor, *, stride: int = 4, window: int = 8, config: RadiomicsConfig | None = None
) -> Tensor:
    """Descriptors (B, 34, Z // stride, Y // stride, X // stride) float32; NaN where the window has too little lung.

    hu: (B, Z, Y, X) in HU.  lung: (B, Z, Y, X), true or positive in the lung.
    Too little is a lung share of the window below `config.min_lung`; what lies beyond the scan is not lung.
    """
    config = config or RadiomicsConfig()
    if stride < 1 or window < stride:
        raise ConfigError(
            f"a window of {window} voxels does not cover a stride of {stride}", remedy="choose window >= stride >= 1"
        )
    names, grid = descriptor_names(config), [n // stride for n in hu.shape[1:]]
    out = torch.full((len(hu), len(names), *grid), torch.nan, device=hu.device)
    step = max(1, SLAB // stride)
    with torch.autocast(hu.device.type, enabled=False):
        for item in range(len(hu)):
            inside = (lung[item] > 0) & torch.isfinite(hu[item])
            box = _bounds(inside, stride, window)
            if box is None:
                continue
            (z0, z1), (y0, y1), (x0, x1) = box
            for low in range(z0, z1, step):
                part = [(low, min(low + step, z1)), (y0, y1), (x0, x1)]
                target = tuple(slice(a, b) for a, b in part)
                out[(item, slice(None), *target)] = _describe_part(hu[item], inside, part, (stride, window), config)
    return out


def _bounds(inside: Tensor, stride: int, window: int) -> list[tuple[int, int]] | None:
    """Ranges of grid positions along each axis whose windows may hold lung; None where there are none."""
    box = []
    for axis, length in enumerate(inside.shape):
        others = [other for other in range(3) if other != axis]
        found = inside.any(others[1]).any(others[0]).nonzero().flatten()
        if len(found) == 0:
            return None
        low, high = (int(found[0]) - window) // stride, (int(found[-1]) + window) // stride + 1
        box.append((max(0, low), min(length // stride, high)))
    return box if all(high > low for low, high in box) else None


def _describe_part(
    hu: Tensor, inside: Tensor, part: list[tuple[int, int]], size: tuple[int, int], config: RadiomicsConfig
) -> Tensor:
    """Descriptors (34, z, y, x) of the grid positions in `part`; hu and inside are the whole scan (Z, Y, X)."""
    stride, window = size
    before, radius = (window - stride) // 2, config.kernel // 2
    reach = 2 * radius  # the filters see `radius` voxels around a window, and their filling as many again
    ranges = [(a * stride - before - reach, (b - 1) * stride - before + window + reach) for a, b in part]
    mask = _cut(inside, ranges, 0)
    image = torch.where(mask, _cut(hu.float(), ranges, 0), config.low_hu).clamp(config.low_hu, config.high_hu)

    core = tuple(slice(reach, n - reach) for n in image.shape)
    windows = _windows(image[core], stride, window)  # (z, y, x, w, w, w), a view
    masks = _windows(mask[core], stride, window)
    voxels = _box_sums(mask[core].float()[None], stride, window)[0]  # lung voxels of each window (z, y, x)
    chosen = (voxels >= max(config.min_lung * window**3, 0.5)).nonzero(as_tuple=True)
    out = torch.full((len(descriptor_names(config)), *voxels.shape), torch.nan, device=hu.device)
    if len(chosen[0]) == 0:
        return out

    rows = []
    for indices in zip(*(index.split(max(1, CHUNK_VOXELS // window**3)) for index in chosen), strict=True):
        cubes, lungs = windows[indices], masks[indices]  # (N, w, w, w)
        rows.append(torch.cat([first_order_batch(cubes, lungs, config), glcm_batch(cubes, lungs, config)], 1))
    out[(slice(0, rows[0].shape[1]), *chosen)] = torch.cat(rows).T
    texture = _plane_means(_fill(image, mask, radius), mask, (radius, reach), (stride, window), config)
    out[(slice(rows[0].shape[1], None), *chosen)] = (texture / voxels)[(slice(None), *chosen)]
    return out


def _cut(values: Tensor, ranges: list[tuple[int, int]], fill: int) -> Tensor:
    """The part of (Z, Y, X) in `ranges`, which may reach beyond it: there is `fill`."""
    inner = tuple(slice(max(0, a), max(0, b)) for a, b in ranges)
    pads = [
        n
        for (a, b), length in zip(reversed(ranges), reversed(values.shape), strict=True)
        for n in (max(0, -a), max(0, b - length))
    ]
    return functional.pad(values[inner], pads, value=fill)


def _windows(values: Tensor, stride: int, window: int) -> Tensor:
    """All windows of (Z, Y, X) as a view (z, y, x, w, w, w)."""
    return values.unfold(0, window, stride).unfold(1, window, stride).unfold(2, window, stride)


def _box_sums(maps: Tensor, stride: int, window: int) -> Tensor:
    """Sums over all windows: (C, Z, Y, X) -> (C, z, y, x), one axis after the other."""
    for axis in (3, 2, 1):
        maps = maps.unfold(axis, window, stride).sum(-1)
    return maps


def _fill(image: Tensor, mask: Tensor, radius: int) -> Tensor:
    """The scan minus its mean lung HU, and off the lung the mean of the lung within `radius` voxels along each axis."""
    mean = image[mask].mean()
    centred, weight = (image - mean) * mask, mask.float()
    near, count = (_smooth(values, radius) for values in (centred, weight))
    return torch.where(mask, centred, torch.where(count > 1e-6, near / count.clamp(min=1e-6), 0.0))


def _smooth(values: Tensor, radius: int) -> Tensor:
    """Box mean of (Z, Y, X) over 2 * radius + 1 voxels along each axis; beyond the border is 0."""
    width = 2 * radius + 1
    for axis in range(3):
        moved = values.movedim(axis, -1)
        flat = moved.reshape(-1, 1, moved.shape[-1])
        values = functional.avg_pool1d(flat, width, 1, radius).view(moved.shape).movedim(-1, axis)
    return values


def _plane_means(
    image: Tensor, mask: Tensor, margins: tuple[int, int], size: tuple[int, int], config: RadiomicsConfig
) -> Tensor:
    """Sums over each window's lung voxels, (23, z, y, x), of LBP codes and Gabor energies, mean over plane directions."""
    radius, reach = margins
    valid = tuple(slice(radius, n - radius) for n in image.shape)
    core = tuple(slice(reach, n - reach) for n in image.shape)
    inside, total = mask[core].float(), torch.zeros((), device=image.device)
    for axis in range(3):
        planes = image[valid].movedim(axis, 0)
        trim = tuple(slice(reach - radius, n - (reach - radius)) for n in image[valid].shape)
        code = codes_batch(planes).movedim(0, axis)[trim]
        total_codes = [_box_sums(((code == k) * inside)[None], *size) for k in range(BINS)]
        energies = []
        for energy in energy_maps(planes, config):  # (P, H, W)
            energies.append(_box_sums((energy.movedim(0, axis)[trim] * inside)[None], *size))
        mean = torch.stack(energies).mean(0)
        total = total + torch.cat([*total_codes, *energies, mean]) / 3
    return total
