"""Noise of a scan in soft tissue: strength and in-plane power spectrum, which depends on the reconstruction kernel.

It is measured in small in-plane patches with the density of soft tissue that are uniform after smoothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diffseglung.volume import Volume

PATCH_MM, LEAST_PIXELS = 16.0, 8
"""Edge of a patch in mm, and the fewest pixels for a spectrum."""
SMOOTHINGS_MM, EVEN_HU = (1.5, 4.0), 100.0
"""A patch is uniform if its range is below EVEN_HU after smoothing with this sd, so it has no border of fat, bone or
air. The second smoothing is used if too few patches are uniform after the first, because of noise."""
TISSUE_HU = (-20.0, 350.0)
"""Range of the mean of a patch: muscle, heart and liver, with or without contrast agent."""
MOST_SLICES, ENOUGH_PATCHES, LEAST_PATCHES = 24, 200, 30


@dataclass(frozen=True, eq=False)
class NoiseSpectrum:
    """sd_hu: of the noise.  power: (n, n) mean periodogram, fft order.  pixel_mm: in-plane pixel edge.

    patches: number of uniform patches.
    """

    sd_hu: float
    power: NDArray[np.float64]
    pixel_mm: float
    patches: int

    @property
    def frequency(self) -> NDArray[np.float64]:
        """(n, n) radial frequency in cycles per mm, fft order."""
        f = np.fft.fftfreq(len(self.power), self.pixel_mm)
        return np.asarray(np.hypot(f[:, None], f[None, :]))

    @property
    def centroid(self) -> float:
        """Mean radial frequency of the noise power in cycles per mm: higher for sharper kernels."""
        return float((self.power * self.frequency).sum() / self.power.sum())

    @property
    def whiteness(self) -> float:
        """Centroid as a fraction of the Nyquist frequency; 0.765 for uncorrelated pixels (white noise)."""
        return self.centroid * 2 * self.pixel_mm


def noise_spectrum(upright: Volume, first: int, last: int) -> NoiseSpectrum | None:
    """Noise of slices first..last of a canonical scan in HU; None if there is too little uniform soft tissue."""
    pixel_mm = float(np.mean(upright.spacing_mm[1:]))
    size = max(LEAST_PIXELS, round(PATCH_MM / pixel_mm))
    if min(upright.shape[1:]) < size:
        return None
    planes = np.unique(np.linspace(first, last, MOST_SLICES).round().astype(int))
    slices = [np.asarray(upright.array[z], np.float32) for z in planes]
    for smoothing in SMOOTHINGS_MM:
        patches = np.concatenate([_even_patches(hu, size, smoothing / pixel_mm) for hu in slices])
        if len(patches) >= ENOUGH_PATCHES:
            break
    if len(patches) < LEAST_PATCHES:
        return None
    rest = _without_plane(patches)
    variance = np.sum(rest**2, axis=(1, 2)) / (size * size - 3)
    typical = float(np.median(variance))
    taper = np.hanning(size + 1)[:-1]
    power = np.mean(np.abs(np.fft.fft2(rest[variance <= typical] * np.outer(taper, taper))) ** 2, axis=0)
    power[0, 0] = 0.0
    if not power.any():
        return None
    return NoiseSpectrum(float(np.sqrt(typical)), power, pixel_mm, len(patches))


def _even_patches(hu: NDArray[np.float32], size: int, smoothing: float) -> NDArray[np.float32]:
    """Half-overlapping patches (N, size, size) of one slice that hold soft tissue only.  smoothing: sd in pixels."""
    smooth = ndimage.gaussian_filter(hu, smoothing)
    step = size // 2
    windows = np.lib.stride_tricks.sliding_window_view(smooth, (size, size))[::step, ::step]
    mean, span = windows.mean((2, 3)), np.ptp(windows, axis=(2, 3))
    even = (mean >= TISSUE_HU[0]) & (mean <= TISSUE_HU[1]) & (span < EVEN_HU)
    return np.asarray(np.lib.stride_tricks.sliding_window_view(hu, (size, size))[::step, ::step][even])


def _without_plane(patches: NDArray[np.float32]) -> NDArray[np.float64]:
    """Patches (N, n, n) minus their least-squares plane."""
    size = patches.shape[1]
    y, x = np.mgrid[:size, :size].astype(np.float64)
    basis = np.stack([np.ones(size * size), y.ravel(), x.ravel()], 1)
    flat = patches.reshape(len(patches), -1).astype(np.float64)
    flat -= (flat @ np.linalg.pinv(basis).T) @ basis.T
    return flat.reshape(patches.shape)
