"""Resample a volume onto another grid at the same place in the patient.

Voxels are boxes, so grids share their outer faces, not their outer voxel centres. Downsampling first smooths with the
Gaussian that turns one voxel size into the other (Cardoso et al., MICCAI 2015, doi 10.1007/978-3-319-24571-3_81:
sigma^2 = (after^2 - before^2) / (8 ln 2), the voxel size read as a full width at half maximum).
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, log, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diffseglung.platform.errors import ConfigError, GeometryError
from diffseglung.platform.out_of_core import SLAB_MIB, release
from diffseglung.volume import Array, Shape, Volume

FWHM = sqrt(8 * log(2))
"""Full width at half maximum of a Gaussian, in standard deviations."""
EXACT = 1e-6
"""Tolerance, as a share of a block, for a point on its face."""
INTERPOLATORS = {0: "sitkNearestNeighbor", 1: "sitkLinear", 3: "sitkBSpline"}


def resample(volume: Volume, spacing_mm: float | tuple[float, float, float], *, order: int = 1) -> Volume:
    """The volume at `spacing_mm` along its own axes (Z, Y, X), over the same extent.

    The grid keeps its centre and extends past the old outer faces by less than one voxel in all.
    order: 0 for labels (dtype kept, no smoothing), 1 linear or 3 cubic for intensities (float32).

    >>> volume = Volume(np.zeros((10, 20, 20), np.int16), np.diag([3.0, 1.0, 1.0, 1.0])[[2, 1, 0, 3]])
    >>> resample(volume, 1.5, order=0).shape
    (20, 14, 14)
    """
    return resample_onto(volume, grid_at(volume, spacing_mm), order=order)


def coarsened(volume: Volume, grid: Volume, value: Callable[[Array], Array] = np.asarray) -> Volume:
    """The volume on a grid of the same axes by linear interpolation, a few slices at a time to save memory.

    value: applied to the voxels first.  Beyond its faces the volume continues with its outermost voxels.
    """
    step = grid.spacing_mm[0] / volume.spacing_mm[0]
    first = float((np.linalg.inv(volume.affine) @ grid.affine)[0, 3])  # position of the grid's first plane
    reach = ceil(3 * max(step, 1.0)) + 2  # of smoothing and interpolation, in slices
    thick = max(1, int(SLAB_MIB * 2**20 / (volume.array[0].size * 4 * step)))
    spare = _overhang(volume, grid)
    out = np.empty(grid.shape, np.float32)
    for start in range(0, grid.shape[0], thick):
        stop = min(start + thick, grid.shape[0])
        low = min(max(int(first + start * step) - reach, 0), volume.shape[0] - 1)
        high = max(min(ceil(first + (stop - 1) * step) + reach + 1, volume.shape[0]), low + 1)
        part = volume.crop((low, 0, 0), (high, *volume.shape[1:]))
        part = _extended(part.with_array(np.ascontiguousarray(value(part.array), np.float32)), spare)
        target = grid.crop((start, 0, 0), (stop, *grid.shape[1:]))
        out[start:stop] = resample_onto(part, target).array
        release(volume.array)
    return grid.with_array(out)


def lattice(volume: Volume, spacing_mm: float, multiple: int) -> Volume:
    """An empty isotropic grid over the extent of `volume` with voxels at fixed places in the patient.

    Voxel faces are whole multiples of `spacing_mm` from the scanner's origin, along the volume's axes; the first voxel
    is at a multiple of `multiple` voxels. So a crop, a border or finer voxels do not shift the grid.
    """
    before, count = np.asarray(volume.spacing_mm), np.asarray(volume.shape)
    low = volume.first_mm - before / 2
    block = spacing_mm * multiple
    start = np.floor(low / block + EXACT) * block
    counts = np.maximum(np.ceil((low + count * before - start) / spacing_mm - 0.01), 1).astype(int)
    directions = volume.affine[:3, :3] / before
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = directions * spacing_mm, directions @ (start + spacing_mm / 2)
    shape: Shape = (int(counts[0]), int(counts[1]), int(counts[2]))
    return Volume(np.broadcast_to(np.zeros((), np.float32), shape), affine)


def _overhang(volume: Volume, grid: Volume) -> tuple[tuple[int, int], ...]:
    """Voxels by which a grid of the same axes extends past the volume's faces, before and after, (Z, Y, X)."""
    index_map = np.linalg.inv(volume.affine) @ grid.affine
    first = index_map[:3, 3]
    last = first + index_map[:3, :3].diagonal() * (np.asarray(grid.shape) - 1)
    before = np.maximum(np.ceil(-first), 0).astype(int)
    behind = np.maximum(np.ceil(last - (np.asarray(volume.shape) - 1)), 0).astype(int)
    return tuple((int(a), int(b)) for a, b in zip(before, behind, strict=True))


def _extended(volume: Volume, spare: tuple[tuple[int, int], ...]) -> Volume:
    """The volume with its outermost voxels repeated."""
    affine = volume.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ [before for before, _ in spare]
    return Volume(np.pad(volume.array, spare, mode="edge"), affine)


def grid_at(volume: Volume, spacing_mm: float | tuple[float, float, float]) -> Volume:
    """An empty grid (an array of zero strides, without memory) of `spacing_mm` over the extent of `volume`."""
    after = np.broadcast_to(np.asarray(spacing_mm, np.float64), (3,))
    if not (np.isfinite(after).all() and (after > 0).all()):
        raise ConfigError(f"a spacing of {spacing_mm} mm", remedy="give positive millimetres")
    before = np.asarray(volume.spacing_mm)
    counts = [max(1, ceil(n * b / a - 0.01)) for n, b, a in zip(volume.shape, before, after, strict=True)]
    affine = volume.affine.copy()
    affine[:3, :3] *= after / before
    middle = (np.asarray(volume.shape) - 1) / 2
    affine[:3, 3] += volume.affine[:3, :3] @ middle - affine[:3, :3] @ ((np.asarray(counts) - 1) / 2)
    shape: Shape = (counts[0], counts[1], counts[2])
    return Volume(np.broadcast_to(np.zeros((), np.float32), shape), affine)


def resample_onto(volume: Volume, grid: Volume, *, order: int = 1, fill: float | None = None) -> Volume:
    """The volume's values on the shape and affine of `grid`, for any two overlapping grids.

    order: 0 nearest voxel (labels, dtype kept), 1 linear, 3 cubic (both float32).
    fill:  value outside the volume; by default 0 for labels and NaN (unknown) for intensities.
    Raises GeometryError if the grids do not overlap.
    """
    if order not in INTERPOLATORS:
        raise ConfigError(f"interpolation order {order}", remedy="use 0 (labels), 1 (linear) or 3 (cubic)")
    if volume.same_grid(grid, tolerance_mm=1e-4):
        return volume if order == 0 else Volume(volume.array.astype(np.float32, copy=False), grid.affine)
    if fill is None:
        fill = float("nan") if order else 0.0
    index_map = np.linalg.inv(volume.affine) @ grid.affine  # grid index (z, y, x, 1) -> volume index
    _check_overlap(index_map, volume.shape, grid.shape)
    array = _smooth_for(volume.array, index_map[:3, :3]) if order else volume.array
    return Volume(_interpolate(array, index_map, grid.shape, order=order, fill=fill), grid.affine)


def covers_same_box(a: Volume, b: Volume) -> bool:
    """Whether both grids fill the same box of the patient, whatever their axes and voxels (to a tenth of a voxel)."""
    corners_a, corners_b = (np.unique(_outer_corners(v).round(6), axis=0) for v in (a, b))
    gaps = np.linalg.norm(corners_a[:, None] - corners_b[None], axis=2)
    tolerance = max(0.02, 0.1 * min(*a.spacing_mm, *b.spacing_mm))
    return bool(gaps.min(axis=1).max() <= tolerance and gaps.min(axis=0).max() <= tolerance)


def _outer_corners(volume: Volume) -> NDArray[np.float64]:
    """(8, 3) corners of the box that the voxels fill, in patient mm."""
    return np.asarray((volume.affine @ _box(volume.shape))[:3].T, np.float64)


def _box(shape: Shape) -> NDArray[np.float64]:
    """(4, 8) corners of a grid's box as homogeneous voxel indices."""
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in shape], indexing="ij")).reshape(3, -1)
    return np.vstack([corners, np.ones(8)])


def _check_overlap(index_map: NDArray[np.float64], source: Shape, target: Shape) -> None:
    """Raise GeometryError if the boxes of two grids (along the source's axes) are disjoint."""
    reached = (index_map @ _box(target))[:3]
    if (reached.max(axis=1) < -0.5).any() or (reached.min(axis=1) > np.asarray(source) - 0.5).any():
        raise GeometryError(
            "the two grids lie in different places of the patient and do not overlap",
            remedy="check that both files belong to the same scan and contain their positions",
        )


def _smooth_for(array: Array, steps: NDArray[np.float64]) -> NDArray[np.float32]:
    """Gaussian smoothing along axes on which the target is coarser.  steps: (3, 3), source voxels per target voxel."""
    smooth = np.asarray(array, np.float32)
    for axis, factor in enumerate(np.abs(steps).max(axis=1)):
        if factor > 1.01:
            sigma = sqrt(factor**2 - 1) / FWHM
            smooth = ndimage.gaussian_filter1d(smooth, sigma, axis, mode="nearest", truncate=3.0)
    return smooth


def _interpolate(array: Array, index_map: NDArray[np.float64], shape: Shape, *, order: int, fill: float) -> Array:
    """Values of `array` at index_map @ (z, y, x, 1), by ITK in index coordinates, which supports sheared grids."""
    import SimpleITK  # heavy import, needed here only

    sitk: Any = SimpleITK  # it carries no types

    dtype = array.dtype if order == 0 else np.dtype(np.float32)
    carried: NDArray[Any] = array
    if dtype == np.bool_:
        carried = array.astype(np.uint8)
    elif dtype == np.float16:
        carried = array.astype(np.float32)
    image = sitk.GetImageFromArray(np.ascontiguousarray(carried))
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(index_map[2::-1, 2::-1].ravel().tolist())
    transform.SetTranslation(index_map[2::-1, 3].tolist())
    out = sitk.Resample(
        image, [int(n) for n in shape[::-1]], transform, getattr(sitk, INTERPOLATORS[order]),
        [0.0] * 3, [1.0] * 3, [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0], float(fill), image.GetPixelID(),
    )  # fmt: skip
    return np.asarray(sitk.GetArrayFromImage(out), dtype)
