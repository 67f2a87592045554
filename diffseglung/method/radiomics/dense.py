"""One descriptor vector per feature-grid position: that of a `window` cube around it.

Position (i, j, k) is the cell of stride^3 voxels that starts at (i, j, k) * stride; its window has the same centre
(rounded down where window - stride is odd). HU statistics and co-occurrence equal `describe_batch` of the window. LBP
and Gabor differ from it in three ways, which suit small windows: filters reach beyond the window instead of a filled
border; all planes of the window are used, not only the middle ones; and voxels outside the lung are set to the mean of
the lung nearby (a 15-voxel box), not of the patch.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from diffseglung.method.radiomics.descriptor import descriptor_names
from diffseglung.method.radiomics.firstorder import first_order_batch
from diffseglung.method.radiomics.gabor import energy_maps
from diffseglung.method.radiomics.glcm import glcm_batch
from diffseglung.method.radiomics.lbp import BINS, codes_batch
from diffseglung.platform.config import RadiomicsConfig
from diffseglung.platform.errors import ConfigError
from diffseglung.platform.runtime import spread

Range = tuple[int, int]
SLAB = 64
"""Thickness in voxels of the part of a scan whose filter maps are in memory at once."""
CHUNK_VOXELS = 65_536
"""Voxels of all windows described at once."""
PLANE_VOXELS = 2**18
"""Voxels of all planes filtered at once: few, so that their maps stay in the CPU cache."""


@torch.no_grad()
def describe_dense(
    hu: Tensor, lung: Tensor, *, stride: int = 4, window: int = 8, config: RadiomicsConfig | None = None
) -> Tensor:
    """Descriptors (B, 34, Z // stride, Y // stride, X // stride) float32; NaN where the window has too little lung.

    hu: (B, Z, Y, X) in HU.  lung: (B, Z, Y, X), true or positive in the lung.
    Too little is a lung share of the window below `config.min_lung`; beyond the scan there is no lung.
    """
    config = config or RadiomicsConfig()
    if stride < 1 or window < stride:
        raise ConfigError(
            f"a window of {window} voxels does not cover a stride of {stride}", remedy="choose window >= stride >= 1"
        )
    names, grid = descriptor_names(config), [n // stride for n in hu.shape[1:]]
    out = torch.full((len(hu), len(names), *grid), torch.nan, device=hu.device)
    with torch.autocast(hu.device.type, enabled=False):
        for item in range(len(hu)):
            inside = (lung[item] > 0) & torch.isfinite(hu[item])
            for part in _parts(inside, stride, window):
                z, y, x = (slice(low, high) for low, high in part)
                out[item, :, z, y, x] = _describe_part(hu[item], inside, part, (stride, window), config)
    return out


def _parts(inside: Tensor, stride: int, window: int) -> Iterator[list[Range]]:
    """Slabs of grid positions, cropped to the windows that may contain lung: ranges along (Z, Y, X)."""
    step = max(1, SLAB // stride)
    for start in range(0, inside.shape[0] // stride, step):
        stop = min(start + step, inside.shape[0] // stride)
        slab = inside[max(0, start * stride - window) : stop * stride + window]
        part = [(start, stop)]
        for axis, length in ((1, inside.shape[1]), (2, inside.shape[2])):
            found = slab.any(0).any(2 - axis).nonzero().flatten()
            if len(found):
                low, high = (int(found[0]) - window) // stride, (int(found[-1]) + window) // stride + 1
                part.append((max(0, low), min(length // stride, high)))
        if len(part) == 3 and all(high > low for low, high in part):
            yield part


def _describe_part(
    hu: Tensor, inside: Tensor, part: list[Range], size: tuple[int, int], config: RadiomicsConfig
) -> Tensor:
    """Descriptors (34, z, y, x) of the grid positions in `part`; hu and inside are the whole scan (Z, Y, X)."""
    stride, window = size
    before, radius = (window - stride) // 2, config.kernel // 2
    reach = 2 * radius  # filters reach `radius` voxels around a window, and the filling as many again
    ranges = [(a * stride - before - reach, (b - 1) * stride - before + window + reach) for a, b in part]
    mask = _cut(inside, ranges, 0)
    image = torch.where(mask, _cut(hu.float(), ranges, 0), config.low_hu).clamp(config.low_hu, config.high_hu)

    core = _trim(image.shape, reach)
    windows = _windows(image[core], stride, window)  # (z, y, x, w, w, w), a view
    masks = _windows(mask[core], stride, window)
    voxels = _box_sums(mask[core].float(), stride, window)  # lung voxels of each window (z, y, x)
    enough = voxels >= max(config.min_lung * window**3, 0.5)
    out = torch.full((len(descriptor_names(config)), *voxels.shape), torch.nan, device=hu.device)
    if not enough.any():
        return out

    def exactly(few: Tensor) -> Tensor:
        cubes, lungs = windows[few.unbind(1)], masks[few.unbind(1)]  # (N, w, w, w)
        return torch.cat([first_order_batch(cubes, lungs, config), glcm_batch(cubes, lungs, config)], 1)

    chunks = torch.split(enough.nonzero(), max(1, CHUNK_VOXELS // window**3))
    exact = torch.cat(list(spread(exactly, chunks))).T  # (11, N)
    out[: len(exact), enough] = exact
    texture = _plane_means(_fill(image, mask, radius), mask, (radius, reach), (stride, window), config)
    out[len(exact) :, enough] = (texture / voxels)[:, enough]
    return out


def _cut(values: Tensor, ranges: list[Range], fill: int) -> Tensor:
    """The part of (Z, Y, X) in `ranges`; beyond the array it is `fill`."""
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


def _box_sums(values: Tensor, stride: int, window: int) -> Tensor:
    """Sums over all windows: (Z, Y, X) -> (z, y, x)."""
    for axis in range(3):
        values = _line_sums(values, axis, stride, window)
    return values


def _line_sums(values: Tensor, axis: int, stride: int, window: int) -> Tensor:
    """Sums over all windows along one axis; along the last one by a band matrix of ones."""
    count = (values.shape[axis] - window) // stride + 1
    if axis % values.ndim == values.ndim - 1:
        apart = torch.arange(values.shape[axis], device=values.device)[:, None]
        apart = apart - stride * torch.arange(count, device=values.device)
        return values @ ((apart >= 0) & (apart < window)).to(values)
    lines = values.movedim(axis, 0)
    total = lines[: (count - 1) * stride + 1 : stride].clone()
    for k in range(1, window):
        total += lines[k : k + (count - 1) * stride + 1 : stride]
    return total.movedim(0, axis)


def _fill(image: Tensor, mask: Tensor, radius: int) -> Tensor:
    """The scan minus its mean lung HU; outside the lung the lung mean in a box of 2 * radius + 1 voxels, else 0."""
    centred = (image - image[mask].mean()) * mask
    near, count = (
        _box_sums(functional.pad(values, (radius,) * 6), 1, 2 * radius + 1) for values in (centred, mask.float())
    )
    return torch.where(mask, centred, near / count.clamp(min=1))


def _plane_means(
    image: Tensor, mask: Tensor, margins: tuple[int, int], size: tuple[int, int], config: RadiomicsConfig
) -> Tensor:
    """Sums over each window's lung voxels, (23, z, y, x), of LBP codes and energies, mean over directions."""
    radius, reach = margins
    inside, total = mask[_trim(mask.shape, reach)], torch.zeros((), device=image.device)
    for axis in range(3):
        halo = [reach if other == axis else reach - radius for other in range(3)]  # none across the planes
        planes = image[_trim(image.shape, *halo)].movedim(axis, 0)
        few = max(1, PLANE_VOXELS // planes[0].numel())
        groups = zip(torch.split(planes, few), torch.split(inside.movedim(axis, 0), few), strict=True)
        sums = torch.cat(list(spread(lambda group: _plane_sums(group[0], group[1], size, config), groups)), 1)
        total = total + _line_sums(sums, 1, *size).movedim(1, 1 + axis) / 3
    return total


@torch.no_grad()
def _plane_sums(planes: Tensor, lung: Tensor, size: tuple[int, int], config: RadiomicsConfig) -> Tensor:
    """Sums over the windows of each plane (23, P, h, w), of lung pixels.

    planes: (P, H + 2 radius, W + 2 radius).  lung: (P, H, W) bool.
    """
    radius, weight = config.kernel // 2, lung.float()
    code = torch.where(lung, codes_batch(planes)[_trim(planes.shape, 0, radius, radius)], BINS)
    energies = (energy * weight for energy in energy_maps(planes, config, padding=False))
    maps = itertools.chain(((code == k).float() for k in range(BINS)), energies)
    sums = torch.stack([_line_sums(_line_sums(values, 1, *size), 2, *size) for values in maps])
    return torch.cat([sums, sums[BINS:].mean(0, keepdim=True)])


def _trim(shape: torch.Size, *margins: int) -> tuple[slice, ...]:
    """Slices that remove a margin on both sides of each axis."""
    each = margins if len(margins) == len(shape) else margins * len(shape)
    return tuple(slice(margin, length - margin) for margin, length in zip(each, shape, strict=True))
