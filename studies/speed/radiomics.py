"""The teacher compared with scikit-image: 34 descriptors of patches, and of every position of a scan.

The peer is the definition of `method/radiomics/descriptor.py` written patch by patch with scikit-image and SciPy.
scikit-image counts pairs within planes; pairs across slices are counted in planes of other orientations, and in
stacks whose slices are shifted by one more voxel each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from diffseglung.method.radiomics.dense import describe_dense
from diffseglung.method.radiomics.descriptor import DESCRIPTOR_NAMES, describe_batch
from diffseglung.platform.config import RadiomicsConfig
from studies.speed.clock import Row, clock, race
from studies.speed.machine import machine

PEER = "scikit-image and SciPy, patch by patch"
EDGE, FASTER, DENSE_S = 32, 20, 20.0
SCAN, SPACING_MM = (200, 190, 220), 1.5
FILTER_FLOPS = 2 * 46 * (13 * 46 / 32 + 25)
"""Operations of the 12 filters per pixel: 13 lines down and 25 products along a tile of 32 pixels with its margins."""
PAIRS = 13
"""Pairs counted per voxel."""
QUARTERS = (0.0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)


def rows(quick: bool = False) -> list[Row]:
    """Patches compared with scikit-image, and a whole scan.  quick: small sizes, for tests."""
    if quick:
        return [_patches(2, 1), _scan((32, 40, 48), 1)]
    patches, scan = _patches(24, 3), _scan(SCAN, 3)
    faster = None if patches.ratio is None else patches.ratio >= FASTER
    return [
        replace(patches, target=f"{FASTER} x the peer", met=faster),
        replace(scan, target=f"{DENSE_S:.0f} s", met=scan.cost.seconds <= DENSE_S),
    ]


def lung_patches(count: int) -> tuple[Tensor, Tensor]:
    """Cubes (B, 32, 32, 32) of whole HU around -800 with noise, and their lung mask: a ball without the corners."""
    random = np.random.default_rng(0)
    grain = random.normal(0, 1, (count, EDGE, EDGE, EDGE)).astype(np.float32)
    hu = -800 + 150 * ndimage.gaussian_filter(grain, (0, 1, 1, 1)) / 0.2
    axis = np.linspace(-1, 1, EDGE)
    ball = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2 < 1.5
    return torch.from_numpy(hu.round()), torch.from_numpy(np.broadcast_to(ball, hu.shape).copy())


def phantom_scan(shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """A scan (1, Z, Y, X) with noise, and two ellipsoids of lung that fill 30 % of it."""
    z, y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape)
    ends = (z / 0.88)[:, None, None] ** 2 + (y / 0.66)[:, None] ** 2
    lung = (ends + ((x - 0.45) / 0.36) ** 2 < 1) | (ends + ((x + 0.45) / 0.36) ** 2 < 1)
    grain = ndimage.gaussian_filter(np.random.default_rng(0).normal(0, 1, shape).astype(np.float32), 1)
    hu = np.where(lung, -850 + 600 * grain, 40).round().astype(np.float32)
    return torch.from_numpy(hu)[None], torch.from_numpy(lung)[None]


def describe_by_peer(hu: NDArray[Any], lung: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The 34 descriptors of one patch, written with scikit-image."""
    import skimage.feature

    tools: Any = skimage.feature
    config = RadiomicsConfig()
    clipped = np.clip(np.where(lung, hu, config.low_hu).astype(np.float64), config.low_hu, config.high_hu)
    inside = clipped[lung]
    mean, sd = inside.mean(), inside.std()
    standard = (inside - mean) / sd
    share = np.histogram(inside, config.bins, (config.low_hu, config.high_hu))[0] / inside.size
    bits = -(share[share > 0] * np.log2(share[share > 0])).sum()
    found = [mean, sd, (standard**3).mean(), (standard**4).mean() - 3, bits]

    step = (config.high_hu - config.low_hu) / config.levels
    level = np.clip((clipped - config.low_hu) // step, 0, config.levels - 1).astype(np.uint8)
    counts = _pairs(np.where(lung, level, config.levels).astype(np.uint8), config.levels)
    table = (counts / counts.sum())[:, :, None, None]
    measures = ("contrast", "dissimilarity", "homogeneity", "energy", "correlation", "ASM")
    found += [float(tools.graycoprops(table, name)[0, 0]) for name in measures]

    centred, texture = np.where(lung, clipped - mean, 0), []
    for axis in range(3):
        plane, mask = centred.take(EDGE // 2, axis), lung.take(EDGE // 2, axis)
        code = tools.local_binary_pattern((100 * plane).round().astype(np.int64), 8, 1, method="uniform")
        shares = np.bincount(code[mask].astype(int), minlength=10) / mask.sum()
        energies = [float(energy[mask].mean()) for energy in _energies(plane, config)]
        texture.append([*shares, *energies, np.mean(energies)])
    return np.array([*found, *np.mean(texture, 0)])


def _pairs(level: NDArray[np.uint8], levels: int) -> NDArray[np.float64]:
    """Counts (levels, levels) of pairs in the 13 directions; level `levels` is outside the lung, and dropped."""
    import skimage.feature

    tools: Any = skimage.feature
    counts = np.zeros((levels + 1, levels + 1))
    depth = len(level)

    def add(planes: NDArray[np.uint8], angles: tuple[float, ...]) -> None:
        for plane in planes:
            counts[:] += tools.graycomatrix(plane, [1], angles, levels + 1, symmetric=True).sum((2, 3))

    add(level, QUARTERS)  # within slices
    add(level.transpose(1, 0, 2), QUARTERS[1:])  # from slice to slice: straight on, and to both sides
    add(level.transpose(2, 0, 1), QUARTERS[1::2])
    for side in (1, -1):  # the diagonals of cubes
        wide = np.pad(level, ((0, 0), (depth, depth), (0, 0)), constant_values=levels)
        pushed = np.stack([np.roll(plane, side * z, 0) for z, plane in enumerate(wide)])
        add(pushed.transpose(1, 0, 2), QUARTERS[1::2])
    return counts[:levels, :levels]


def _energies(plane: NDArray[np.float64], config: RadiomicsConfig) -> Iterator[NDArray[np.float64]]:
    """Squared magnitude of each Gabor filter's response to a plane (H, W)."""
    import skimage.filters

    tools: Any = skimage.filters
    image = plane / ((config.high_hu - config.low_hu) / 2)
    for frequency in config.frequencies:
        for theta in QUARTERS:
            wide = tools.gabor_kernel(frequency, theta, sigma_x=config.sigma, sigma_y=config.sigma, n_stds=4)
            low = [(n - config.kernel) // 2 for n in wide.shape]
            kernel = wide[low[0] : low[0] + config.kernel, low[1] : low[1] + config.kernel]
            kernel = kernel - np.abs(kernel) * (kernel.sum() / np.abs(kernel).sum())
            real = ndimage.convolve(image, kernel.real, mode="constant")
            imaginary = ndimage.convolve(image, kernel.imag, mode="constant")
            yield real**2 + imaginary**2


def _patches(count: int, repeats: int) -> Row:
    hu, lung = lung_patches(count)
    pairs = list(zip(hu.numpy(), lung.numpy(), strict=True))
    peer_cost, note = None, ""
    if find_spec("skimage"):
        cost, peer_cost = race(
            lambda: describe_batch(hu, lung), lambda: [describe_by_peer(*pair) for pair in pairs], repeats
        )
        wanted = describe_by_peer(*pairs[0])
        apart = np.abs(describe_batch(hu[:1], lung[:1])[0].numpy() - wanted) / (np.abs(wanted) + 0.1)
        worst = int(apart.argmax())
        note = f"largest difference of the first patch: {apart[worst]:.0e} relative, {DESCRIPTOR_NAMES[worst]}"
    else:
        cost = clock(lambda: describe_batch(hu, lung), repeats)
    return Row(
        part="radiomics",
        what=f"34 descriptors of {count} patches of {EDGE}^3",
        cost=cost,
        amount=float(count),
        unit="patches",
        peer=None if peer_cost is None else PEER,
        peer_cost=peer_cost,
        floor_s=machine().floor_s(FILTER_FLOPS * 3 * EDGE**2 * count, 5.0 * hu.numel()),
        floor=f"{FILTER_FLOPS:,.0f} operations of the filters a pixel over the peak of a matrix product; "
        f"{PAIRS * EDGE**3:,} pairs a patch, counted one by one, come on top",
        note=note,
    )


def _scan(shape: tuple[int, int, int], repeats: int) -> Row:
    hu, lung = phantom_scan(shape)
    litres = float(lung.sum()) * SPACING_MM**3 / 1e6
    return Row(
        part="radiomics",
        what=f"34 descriptors every 4 voxels of {' x '.join(map(str, shape))}, window 8, lungs of {litres:.1f} L",
        cost=clock(lambda: describe_dense(hu, lung), repeats, warm=False),
        amount=1.0,
        unit="scans",
        floor_s=machine().floor_s(FILTER_FLOPS * 3 * float(lung.sum()), 5.0 * hu.numel()),
        floor=f"{FILTER_FLOPS:,.0f} operations of the filters a lung voxel and direction over the peak of a product",
        note="synthetic scan; two thirds of its box are not lung, and are filtered too",
    )
