"""Backgrounds for synthetic lesions: real and synthetic chests on the model grid, decomposed into their parts.

A network trained on synthetic lesions sees only as many kinds of normal lung as there are backgrounds. They are made
once, stored in a folder, and cropped, rotated and degraded anew for every patch (`phantom.random_patches`).
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diffseglung.case.alignment import HealthyLevel, healthy_level
from diffseglung.case.prepared import PreparedScan
from diffseglung.labels import HEALTHY
from diffseglung.phantom import anatomy
from diffseglung.phantom.canvas import UNKNOWN
from diffseglung.phantom.procedural import EXTENT_MM
from diffseglung.phantom.record import Draw
from diffseglung.phantom.semisynthetic import take_apart
from diffseglung.platform.atomic_files import workshop

SPACING_MM = 1.5
MARGIN = 16
"""Voxels kept around the lungs."""
SOLID_HU, SOLID_ML, SOLID_MARGIN = -150.0, 3.0, 5
"""Thick dense tissue of this volume in a real lung may be disease, so its label is UNKNOWN."""
EXHALE = 0.3
"""Share of synthetic chests in expiration."""


@dataclass(frozen=True, eq=False)
class Background:
    """A chest on a grid of SPACING_MM, canonical axes, (Z, Y, X) each.

    hu:         float16; the scan, or of a synthetic chest the image of an ideal scanner.
    parenchyma: float16 HU without vessels.  vessels, lumen: uint8, share of a voxel in 255ths.
    depth:      float16 mm below the lung's surface.   lungs: uint8, 1 right, 2 left.
    truth:      uint8; label ids in the lungs, UNKNOWN if unclear, 0 outside.
    healthy:    (2, Y) float32; HU of healthy right and left lung at each row from front to back.  air_hu: (1,) float32.
    """

    hu: NDArray[np.float16]
    parenchyma: NDArray[np.float16]
    vessels: NDArray[np.uint8]
    lumen: NDArray[np.uint8]
    depth: NDArray[np.float16]
    lungs: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    healthy: NDArray[np.float32]
    air_hu: NDArray[np.float32]

    @property
    def digest(self) -> str:
        """Short hash of the scan."""
        return hashlib.sha256(np.ascontiguousarray(self.hu).tobytes()).hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Write one .npy file per field, atomically; an existing folder is replaced."""
        with workshop(folder) as part:
            for item in fields(self):
                np.save(part / f"{item.name}.npy", getattr(self, item.name))
            if folder.is_dir():
                shutil.rmtree(folder)
            part.rename(folder)

    @classmethod
    def load(cls, folder: Path) -> Background:
        """Open a saved background, memory-mapped."""
        return cls(
            **{
                item.name: np.load(folder / f"{item.name}.npy", mmap_mode="r", allow_pickle=False)
                for item in fields(cls)
            }
        )


def real_background(prepared: PreparedScan, lesions: NDArray[np.uint8] | None = None) -> Background:
    """A real scan on the model grid.

    lesions: (Z, Y, X) on that grid; label ids of certain lesions, UNKNOWN for possible ones, 0 elsewhere.
    Thick dense tissue that is not a certain lesion becomes UNKNOWN.
    """
    box = _box(prepared.lungs)
    hu, inside = np.ascontiguousarray(prepared.hu[box], np.float32), prepared.lungs[box]
    parts = take_apart(hu, inside.astype(np.uint8), (SPACING_MM,) * 3)
    truth = _healthy(inside)
    truth[_solid(hu, inside)] = UNKNOWN
    if lesions is not None:
        truth = np.where(inside & (lesions[box] > 0), lesions[box], truth).astype(np.uint8)
    levels = prepared.lung_levels or (prepared.level, prepared.level)
    healthy = _rows(levels, hu.shape[1], box[1].start)
    return Background(
        hu.astype(np.float16), parts.parenchyma.astype(np.float16), _bytes(parts.vessels), _bytes(parts.lumen),
        parts.depth.astype(np.float16), parts.lungs, truth, healthy, np.array([prepared.level.air_hu], np.float32),
    )  # fmt: skip


def synthetic_background(seed: int, split: str = "train") -> Background:
    """A healthy procedural chest."""
    draw = Draw(seed, split)
    shape = tuple(int(mm / SPACING_MM) for mm in EXTENT_MM["full"])
    grid = anatomy.Grid((shape[0], shape[1], shape[2]), (SPACING_MM,) * 3)
    chest = anatomy.build(grid, draw, scale=1.0, exhale=EXHALE)
    prepared = chest.parts
    hu = np.asarray(chest.compose(), np.float32)
    level = healthy_level(ndimage.gaussian_filter(hu, 0.5), prepared.lungs > 0, SPACING_MM)
    box = _box(prepared.lungs > 0)
    rows = _rows((level, level), hu[box].shape[1], box[1].start)
    return Background(
        hu[box].astype(np.float16), prepared.parenchyma[box].astype(np.float16), _bytes(prepared.vessels[box]),
        _bytes(prepared.lumen[box]), prepared.depth[box].astype(np.float16), prepared.lungs[box],
        _healthy(prepared.lungs[box] > 0), rows, np.array([level.air_hu], np.float32),
    )  # fmt: skip


def _rows(levels: tuple[HealthyLevel, HealthyLevel], count: int, first: int) -> NDArray[np.float32]:
    """Healthy levels (2, count) of `count` rows from `first` on."""
    depth_mm = (first + np.arange(count)) * SPACING_MM
    return np.stack([level.at(depth_mm) for level in levels]).astype(np.float32)


def _healthy(lungs: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return lungs.astype(np.uint8) * np.uint8(HEALTHY.id)


def _bytes(share: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)


def _box(lungs: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """Bounding box of the lungs with MARGIN, within the grid."""
    slices = []
    for axis in range(3):
        hits = np.flatnonzero(lungs.any(axis=tuple(a for a in range(3) if a != axis)))
        slices.append(slice(max(int(hits[0]) - MARGIN, 0), int(hits[-1]) + 1 + MARGIN))
    return slices[0], slices[1], slices[2]


def _solid(hu: NDArray[np.float32], lungs: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Thick dense parts of the lungs of SOLID_ML or more, with SOLID_MARGIN voxels around them."""
    cross = ndimage.generate_binary_structure(3, 1)
    labels, count = ndimage.label(ndimage.binary_opening(lungs & (hu > SOLID_HU), cross, iterations=4))
    sizes = np.bincount(labels.ravel(), minlength=count + 1) * SPACING_MM**3 / 1000
    large = sizes > SOLID_ML
    large[0] = False
    found = large[labels]
    return np.asarray(ndimage.binary_dilation(found, cross, iterations=SOLID_MARGIN) & lungs) if found.any() else found
