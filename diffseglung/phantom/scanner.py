"""A CT scanner: slice profile, in-plane sharpness, kernel-shaped noise, calibration error, whole HU."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from diffseglung.phantom.record import Draw
from diffseglung.phantom.texture import Field
from diffseglung.volume import Shape


@dataclass(frozen=True, kw_only=True)
class Scanner:
    """One scan protocol.

    in_plane_mm:  pixel edge.        slice_mm: distance between slices.   thickness_mm: width of a slice.
    blur_mm:      in-plane standard deviation of the point spread function.
    sharpness:    0 soft kernel .. 1 sharp: edge overshoot and high-frequency noise.
    noise_hu:     standard deviation of the noise.   offset_hu: calibration error.
    """

    in_plane_mm: float = 0.8
    slice_mm: float = 1.5
    thickness_mm: float = 1.5
    blur_mm: float = 0.5
    sharpness: float = 0.3
    noise_hu: float = 25.0
    offset_hu: float = 0.0

    @classmethod
    def random(cls, draw: Draw, *, small: bool) -> Scanner:
        """A random protocol within the clinical range."""
        slice_mm = (
            draw.uniform("slice_mm", 0.6, 2.5)
            if draw.chance("thin", 0.65)
            else draw.uniform("slice_thick_mm", 2.5, 5.0)
        )
        if small:
            slice_mm = max(slice_mm, 1.0)
        sharpness = draw.uniform("sharpness", 0.0, 1.0)
        return cls(
            in_plane_mm=draw.uniform("in_plane_mm", 0.85 if small else 0.7, 1.0),
            slice_mm=slice_mm,
            thickness_mm=slice_mm * draw.uniform("thickness_ratio", 1.0, 1.25),
            blur_mm=draw.uniform("blur_mm", 0.42, 0.62) - 0.12 * sharpness,
            sharpness=sharpness,
            noise_hu=draw.uniform("noise_hu", 15, 50),
            offset_hu=draw.uniform("offset_hu", -12, 12),
        )

    def grid(self, extent_mm: tuple[float, float, float]) -> tuple[Shape, tuple[float, float, float]]:
        """Shape and spacing (Z, Y, X) of the drawing grid: pixels of the image, planes of about 1.1 mm."""
        count = max(round(extent_mm[0] / 1.1), 2)
        shape = (count, int(extent_mm[1] / self.in_plane_mm), int(extent_mm[2] / self.in_plane_mm))
        return shape, (extent_mm[0] / count, self.in_plane_mm, self.in_plane_mm)

    def slice_centres(self, planes: int, plane_mm: float) -> NDArray[np.float64]:
        """Centres of the slices, in drawing planes from the centre of the first plane."""
        count = max(int(planes * plane_mm / self.slice_mm), 2)
        return np.asarray(((np.arange(count) + 0.5) * self.slice_mm - plane_mm / 2) / plane_mm, np.float64)

    def profiles(self, planes: int, plane_mm: float) -> Field:
        """Weight of each drawing plane in each slice (slices, planes): a box of `thickness_mm`; rows sum to 1."""
        apart = np.abs(self.slice_centres(planes, plane_mm)[:, None] - np.arange(planes))
        width = max(self.thickness_mm / plane_mm, 1.0)
        weights = np.clip((width + 1) / 2 - apart, 0, 1)
        return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)

    def blurred(self, hu: Field, plane_mm: float) -> Field:
        """Slices from the drawing grid: slice profile, in-plane point spread, edge overshoot of the kernel."""
        profiles = self.profiles(len(hu), plane_mm)
        image = np.empty((len(profiles), *hu.shape[1:]), np.float32)
        sigma, wide = self.blur_mm / self.in_plane_mm, 1.1 / self.in_plane_mm
        for k, profile in enumerate(profiles):
            used = np.flatnonzero(profile)
            soft = ndimage.gaussian_filter(np.tensordot(profile[used], hu[used[0] : used[-1] + 1], 1), sigma)
            if self.sharpness > 0.5:
                soft += (self.sharpness - 0.5) * 0.8 * (soft - ndimage.gaussian_filter(soft, wide))
            image[k] = soft
        return image

    def noise(self, rng: np.random.Generator, shape: Shape) -> Field:
        """Noise whose power rises with frequency (filtered back projection) up to the cut-off of the kernel."""
        fy, fx = fft.fftfreq(shape[1]).astype(np.float32), fft.rfftfreq(shape[2]).astype(np.float32)
        f = np.hypot(fy[:, None], fx[None, :]) / self.in_plane_mm  # cycles per mm
        cut = 0.32 + 0.33 * self.sharpness
        transfer = (np.sqrt(f + 0.02) * np.exp(-((f / cut) ** 2))).astype(np.float32)
        white = rng.standard_normal(shape, np.float32)
        overlap = max(self.thickness_mm / self.slice_mm - 1, 0) + 0.15
        white = ndimage.gaussian_filter1d(white, 0.6 * overlap + 0.15, axis=0)
        for i in range(shape[0]):
            white[i] = fft.irfft2(fft.rfft2(white[i]) * transfer, s=shape[1:])
        white *= np.float32(self.noise_hu / max(float(white.std()), 1e-6))
        return np.asarray(white, np.float32)

    def scan(self, hu: Field, plane_mm: float, rng: np.random.Generator) -> Field:
        """The image (whole HU, -1024..3071) of drawn HU."""
        image = self.blurred(hu, plane_mm)
        image += self.noise(rng, image.shape) + np.float32(self.offset_hu)
        return np.asarray(np.clip(np.rint(image), -1024, 3071), np.float32)
