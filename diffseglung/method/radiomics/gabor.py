"""Gabor energies of planes: texture of the lung by frequency and orientation.

Kernel (15 x 15, sigma 3 voxels): g(x, y) exp(2 pi i f (x cos theta + y sin theta)) with g the normalised Gaussian, as
scikit-image's `gabor_kernel`, minus the multiple of g that makes it sum to zero: its energy then depends on texture
only, not on density. Energy = mean over the lung pixels of the squared magnitude of the response; intensities are in
units of 700 HU (half the published window).

The fast path cuts planes into tiles and filters by matrix products: a kernel is a sum of separable products,
Re = c(y) c(x) - s(y) s(x) - dc g(y) g(x) and Im = c(y) s(x) + s(y) c(x), with g the Gaussian, c = g cos, s = g sin.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from diffseglung.platform.config import RadiomicsConfig


def gabor_names(config: RadiomicsConfig) -> tuple[str, ...]:
    """Names of the energies: frequency in cycles per voxel, orientation in degrees, and their mean."""
    turns = [180 * k // config.orientations for k in range(config.orientations)]
    return (*(f"gabor_{f:.2f}_{turn:03d}" for f in config.frequencies for turn in turns), "gabor_mean")


def angles(config: RadiomicsConfig) -> list[float]:
    """Orientations in radians; 0 is along the second axis of the plane."""
    return [np.pi * k / config.orientations for k in range(config.orientations)]


def kernel(frequency: float, theta: float, config: RadiomicsConfig) -> NDArray[np.complex128]:
    """The plain Gabor kernel (size, size), which still responds to a constant."""
    radius = config.kernel // 2
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    envelope = np.exp(-0.5 * (x**2 + y**2) / config.sigma**2) / (2 * np.pi * config.sigma**2)
    return np.asarray(envelope * np.exp(2j * np.pi * frequency * (x * np.cos(theta) + y * np.sin(theta))))


def zero_mean_kernel(frequency: float, theta: float, config: RadiomicsConfig) -> NDArray[np.complex128]:
    """The kernel minus the share of its envelope that makes it sum to zero."""
    plain, envelope = kernel(frequency, theta, config), kernel(0.0, 0.0, config)
    return np.asarray(plain - envelope * (plain.sum() / envelope.sum()))


def gabor_plane(plane: NDArray[Any], lung: NDArray[np.bool_], config: RadiomicsConfig) -> NDArray[np.float64]:
    """Reference: the energies of one plane (H, W), HU minus the lung mean and 0 off the lung; NaN without lung."""
    if not lung.any():
        return np.full(len(gabor_names(config)), np.nan)
    image, energies = plane / unit_hu(config), []
    for frequency in config.frequencies:
        for theta in angles(config):
            taps = zero_mean_kernel(frequency, theta, config)
            real = ndimage.convolve(image, taps.real, mode="constant")
            imaginary = ndimage.convolve(image, taps.imag, mode="constant")
            energies.append((real**2 + imaginary**2)[lung].mean())
    return np.array([*energies, np.mean(energies)])


def unit_hu(config: RadiomicsConfig) -> float:
    """HU per unit of intensity: half the window, as for the network."""
    return (config.high_hu - config.low_hu) / 2


Line = tuple[str, float]
"""One factor of a kernel: cos or sin, and its frequency along the line (0 for the Gaussian itself)."""
FLAT: Line = ("cos", 0.0)
TILE = 32
"""Pixels of a tile's edge."""


@dataclass(frozen=True)
class Filter:
    """The factors of one kernel along the plane's rows (y) and columns (x).

    sines: sign of their product in the real part, 0 for none.  dc: share of the envelope subtracted.
    """

    cos_y: Line
    cos_x: Line
    sin_y: Line
    sin_x: Line
    sines: int
    dc: float


def _filters(config: RadiomicsConfig) -> Iterator[Filter]:
    """In the order of `gabor_names`."""
    for frequency in config.frequencies:
        for theta in angles(config):
            x, y = (round(frequency * float(turn(theta)), 12) for turn in (np.cos, np.sin))
            dc = kernel(frequency, theta, config).sum().real / kernel(0.0, 0.0, config).sum().real
            sign = int(np.sign(x) * np.sign(y))
            yield Filter(("cos", abs(y)), ("cos", abs(x)), ("sin", abs(y)), ("sin", abs(x)), sign, float(dc))


def _bands(lines: Iterable[Line], length: int, config: RadiomicsConfig) -> Tensor:
    """(lines, length, length + 2 radius): band matrices that filter a line of pixels with margins."""
    t = np.arange(config.kernel) - config.kernel // 2
    gauss = np.exp(-0.5 * (t / config.sigma) ** 2) / (2 * np.pi * config.sigma**2) ** 0.5
    bands = np.zeros((len(list(lines)), length, length + config.kernel - 1), np.float32)
    for band, (wave, frequency) in zip(bands, lines, strict=True):
        taps = gauss * getattr(np, wave)(2 * np.pi * frequency * t)
        for row in range(length):
            band[row, row : row + config.kernel] = taps
    return torch.from_numpy(bands)


@lru_cache(maxsize=32)
def _plan(height: int, width: int, config: RadiomicsConfig) -> tuple[list[Filter], dict[Line, int], Tensor, Tensor]:
    """The filters, the index of each line, and the bands of a tile's columns and rows."""
    filters = list(_filters(config))
    lines = sorted({FLAT, *(line for f in filters for line in (f.cos_y, f.cos_x, f.sin_y, f.sin_x) if line[1] > 0)})
    places = {line: place for place, line in enumerate(lines)}
    return filters, places, _bands(lines, height, config), _bands(lines, width, config)


def energy_maps(planes: Tensor, config: RadiomicsConfig, *, padding: bool = True) -> Iterator[Tensor]:
    """Squared magnitude of each filter's response at every pixel, filter by filter.

    planes: (N, H, W) in HU, centred; beyond the border they are 0.  Yields (N, H, W).
    padding: False yields only the pixels whose kernel lies within the plane, (N, H - 2 radius, W - 2 radius).
    """
    radius = config.kernel // 2
    if padding:
        planes = functional.pad(planes, (radius,) * 4)
    height, width = (length - 2 * radius for length in planes.shape[1:])
    tile = min(TILE, height), min(TILE, width)
    filters, places, down, along = _plan(*tile, config)
    tiles, across = _tiled(planes / unit_hu(config), tile, radius)  # (h + 2 radius, M, w + 2 radius)
    lines = (down.to(planes).flatten(0, 1) @ tiles.flatten(1)).view(len(places), -1, tiles.shape[2])
    turned, done = along.to(planes).mT, dict[tuple[Line, Line], Tensor]()

    def product(y: Line, x: Line) -> Tensor:
        if (y, x) not in done:
            done[y, x] = lines[places[y]] @ turned[places[x]]
        return done[y, x]

    for one in filters:
        real = torch.sub(product(one.cos_y, one.cos_x), product(FLAT, FLAT), alpha=one.dc)
        if one.sines:
            real.sub_(product(one.sin_y, one.sin_x), alpha=one.sines)
            imaginary = torch.add(product(one.cos_y, one.sin_x), product(one.sin_y, one.cos_x), alpha=one.sines)
        elif one.sin_x in places:
            imaginary = product(one.cos_y, one.sin_x)
        else:
            imaginary = product(one.sin_y, one.cos_x)
        energy = real.square_().addcmul_(imaginary, imaginary)
        yield _untiled(energy, tile, across)[:, :height, :width]


def _tiled(planes: Tensor, tile: tuple[int, int], radius: int) -> tuple[Tensor, tuple[int, int, int]]:
    """Tiles with margins as (rows, tiles, columns), and their numbers (planes, down, along)."""
    counts = [-(-(length - 2 * radius) // edge) for length, edge in zip(planes.shape[1:], tile, strict=True)]
    rest = [n * edge + 2 * radius - have for n, edge, have in zip(counts, tile, planes.shape[1:], strict=True)]
    full = functional.pad(planes, (0, rest[1], 0, rest[0]))
    tiles = full.unfold(1, tile[0] + 2 * radius, tile[0]).unfold(2, tile[1] + 2 * radius, tile[1])
    rows = tiles.permute(3, 0, 1, 2, 4)  # (rows, N, down, along, columns)
    return rows.flatten(1, 3).contiguous(), (len(planes), counts[0], counts[1])


def _untiled(values: Tensor, tile: tuple[int, int], across: tuple[int, int, int]) -> Tensor:
    """Inverse of `_tiled`: planes (N, H, W); a view where each plane is one tile."""
    planes, down, along = across
    parts = values.view(tile[0], planes, down, along, tile[1]).permute(1, 2, 0, 3, 4)
    return parts.flatten(3, 4).flatten(1, 2)
