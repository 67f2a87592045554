"""Synthetic scans of clinical size, as files: phantoms (`phantom/`) on typical scanner grids."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffseglung.io.nifti import write_nifti
from diffseglung.phantom.procedural import make_phantom
from diffseglung.phantom.scanner import Scanner
from diffseglung.platform.config import PhantomConfig

SEED, PIXELS, HEIGHT_MM = 9000, 512, 300.0


@dataclass(frozen=True)
class Size:
    """pixel_mm: in-plane edge of 512 x 512 pixels;  slice_mm: of 300 mm of chest."""

    pixel_mm: float
    slice_mm: float

    @property
    def title(self) -> str:
        """Title in tables."""
        slices, edge = round(HEIGHT_MM / self.slice_mm), f"{self.pixel_mm:g}"
        return f"{PIXELS} x {PIXELS} x {slices}, {edge} x {edge} x {self.slice_mm:g} mm"


SIZES = {"standard": Size(0.7, 1.0), "thick": Size(0.75, 2.0), "thin": Size(0.7, 0.3)}


def scan_file(folder: Path, name: str) -> Path:
    """NIfTI file (int16, gzip) of one of SIZES, or of a small chest ("small"); made once."""
    path = folder / f"{name}.nii.gz"
    if path.exists():
        return path
    if name == "small":
        ct = make_phantom(PhantomConfig(seed=SEED, size="small")).ct
    else:
        size = SIZES[name]
        scanner = Scanner(in_plane_mm=size.pixel_mm, slice_mm=size.slice_mm, thickness_mm=max(size.slice_mm, 0.6))
        wide = (PIXELS + 0.5) * size.pixel_mm
        ct = make_phantom(PhantomConfig(seed=SEED), scanner=scanner, extent_mm=(HEIGHT_MM, wide, wide)).ct
    folder.mkdir(parents=True, exist_ok=True)
    write_nifti(path, ct.with_array(np.asarray(ct.array, np.int16)))
    return path
