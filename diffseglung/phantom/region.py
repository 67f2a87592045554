"""Place and extent of a lesion: a blob with a rough border in a box of the chest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diffseglung.labels import Label
from diffseglung.phantom.record import ChestParts, Draw
from diffseglung.phantom.texture import Field, cells, smooth_noise
from diffseglung.volume import Shape

Mask = NDArray[np.bool_]
FLUID_HU = 20.0


@dataclass(frozen=True, eq=False)
class Region:
    """A box of the chest and a blob in it; lesions are drawn into its views of the chest, in place.

    signed: distance in mm to the rough border of the blob, positive inside, -1e3 outside the lung.
    """

    parts: ChestParts
    box: tuple[slice, slice, slice]
    signed: Field
    radius_mm: float

    @property
    def shape(self) -> Shape:
        """Voxels of the box."""
        z, y, x = self.signed.shape
        return z, y, x

    @property
    def parenchyma(self) -> Field:
        """View of the parenchyma, HU."""
        return self.parts.parenchyma[self.box]

    @property
    def vessels(self) -> Field:
        """View of the vessel share."""
        return self.parts.vessels[self.box]

    @property
    def lumen(self) -> Field:
        """View of the share of airway air."""
        return self.parts.lumen[self.box]

    @property
    def depth(self) -> Field:
        """View of the distance to the lung surface."""
        return self.parts.depth[self.box]

    @property
    def lung(self) -> Mask:
        """Mask of the lung that holds the lesion."""
        return np.asarray(self.signed > -500)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Spacing of the grid in mm."""
        return self.parts.spacing_mm

    @property
    def voxel(self) -> float:
        """Mean voxel edge in mm."""
        return float(np.mean(self.parts.spacing_mm))

    def noise(self, rng: np.random.Generator, scale_mm: float) -> Field:
        """Correlated noise of sd 1 on the box."""
        return smooth_noise(rng, self.shape, self.spacing, scale_mm)

    def weight(self, border_mm: float, *, signed: Field | None = None) -> Field:
        """0 outside to 1 inside over about `border_mm`; zero outside the lung."""
        d = self.signed if signed is None else signed
        return np.asarray(np.clip(0.5 + d / max(border_mm, 1e-3), 0, 1) * self.lung, np.float32)

    def lobules(self, rng: np.random.Generator, size_mm: float, signed: Field, margin_mm: float) -> tuple[Mask, Field]:
        """Mask of lobules whose mean of `signed` is positive (geographic border), and mm to the lobule walls."""
        near = (signed > -margin_mm) & self.lung
        number, wall = cells(rng, near, self.spacing, size_mm=size_mm)
        valid = number >= 0
        if not valid.any():
            return valid, wall
        counts = np.bincount(number[valid])
        means = np.bincount(number[valid], weights=np.clip(signed[valid], -30, 30)) / np.maximum(counts, 1)
        inside = valid.copy()
        inside[valid] = means[number[valid]] > 0
        return inside, wall

    def fill(self, share: Field) -> None:
        """Replace a share (0..1 per voxel) of the lung by fluid or cells."""
        parenchyma = self.parenchyma
        parenchyma += np.clip(share, 0, 0.98) * (FLUID_HU - parenchyma)

    def label(self, where: Mask, label: Label) -> None:
        """Write truth inside the lung of the lesion."""
        self.parts.truth[self.box][where & self.lung] = label.id


def place(parts: ChestParts, draw: Draw, site: str, radius_mm: tuple[float, float]) -> Region | None:
    """A blob of random size and roughness at a site of the lungs; None if the lungs are too small."""
    radius = draw.uniform("radius_mm", 0.6 * radius_mm[0], 1.45 * radius_mm[1]) * parts.scale
    candidates = _site(parts, draw, site, radius)
    if len(candidates) == 0:
        return None
    centre = candidates[int(draw.rng.integers(len(candidates)))]
    squash = np.array([draw.uniform(f"squash_{a}", 0.7, 1.3) for a in "zyx"])
    step = np.asarray(parts.spacing_mm)
    reach = (1.45 * radius * squash + 4) / step
    low = np.maximum(np.floor(centre - reach).astype(int), 0)
    high = np.minimum(np.ceil(centre + reach).astype(int) + 1, parts.lungs.shape)
    box = (slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1])), slice(int(low[2]), int(high[2])))
    z, y, x = ((np.arange(a, b) - c) * s / q for a, b, c, s, q in zip(low, high, centre, step, squash, strict=True))
    signed = (radius - np.sqrt(z[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None, :] ** 2)).astype(
        np.float32
    )
    shape: Shape = signed.shape
    rough = draw.uniform("roughness", 0.08, 0.28) * radius
    signed += rough * smooth_noise(draw.rng, shape, parts.spacing_mm, 0.6 * radius + 3)
    signed += draw.uniform("fray_mm", 0.5, 2.0) * smooth_noise(draw.rng, shape, parts.spacing_mm, 5.0)
    number = parts.lungs[tuple(centre)]
    signed[parts.lungs[box] != number] = -1e3
    draw.record["centre"] = [int(c) for c in centre]
    draw.record["lung"] = "right" if number == 1 else "left"
    return Region(parts, box, signed, radius)


def _site(parts: ChestParts, draw: Draw, site: str, radius: float) -> NDArray[np.int64]:
    """Candidate centres (N, 3) on a coarse lattice."""
    stride = tuple(max(1, round(4 * parts.scale / s)) for s in parts.spacing_mm)
    grid = tuple(slice(0, None, k) for k in stride)
    lungs, depth = parts.lungs[grid] > 0, parts.depth[grid]
    where = np.argwhere(lungs)
    if len(where) == 0:
        return where
    d = depth[lungs]
    low, high = where.min(0), where.max(0)
    level = (where - low) / np.maximum(high - low, 1)
    keep = d > 2
    if site in ("peripheral", "upper_rim", "basal_rim"):
        costal = (np.abs(level[:, 2] - 0.5) > 0.22) | (level[:, 1] > 0.7)  # not along the mediastinum
        keep = (d > 1) & (d < 0.45 * radius + 3) & costal
    if site.startswith("upper"):
        keep &= level[:, 0] > 0.5
    if site in ("lower", "basal_rim"):
        keep &= level[:, 0] < 0.55
    if site == "posterior":
        keep &= level[:, 1] > 0.5
    return np.asarray(where[keep] * np.asarray(stride), np.int64)


def blurred(mask: Mask, spacing_mm: tuple[float, float, float], sigma_mm: float) -> Field:
    """Gaussian average of a mask."""
    return np.asarray(
        ndimage.gaussian_filter(mask.astype(np.float32), [sigma_mm / s for s in spacing_mm], truncate=2.5), np.float32
    )
