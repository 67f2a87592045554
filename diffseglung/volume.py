"""`Volume`: voxels and their place in the patient, as one value.

Axis order is (Z, Y, X) everywhere: array axes, shapes, spacings, patch corners. Lengths are millimetres.
Patient coordinates are LPS, as in DICOM: x to the patient's left, y to the back, z to the head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffseglung.platform.errors import GeometryError

Array = NDArray[Any]
Shape = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Volume:
    """A regular voxel grid.

    array:  (Z, Y, X), any dtype: HU, a boolean mask, or integer labels.
    affine: (4, 4), maps a voxel index (z, y, x, 1) to a patient point (x, y, z, 1) in mm, LPS.

    >>> ct = Volume(np.zeros((2, 3, 4), np.int16), np.diag([5.0, 0.8, 0.8, 1.0])[[2, 1, 0, 3]])
    >>> ct.spacing_mm
    (5.0, 0.8, 0.8)
    >>> mask = ct.with_array(ct.array > -500)
    >>> mask.same_grid(ct)
    True
    """

    array: Array
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.array.ndim != 3 or 0 in self.array.shape:
            raise GeometryError(
                f"a volume needs three axes (Z, Y, X) of at least one voxel, this array has shape {self.array.shape}",
                remedy="select one channel or one time point, and check that the scan is a 3D CT",
            )
        affine = np.asarray(self.affine, np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
            raise GeometryError(
                "the voxel grid has no usable orientation or spacing (its affine is singular or not finite)",
                remedy="write the scan again from its source with a valid header",
            )

    @property
    def shape(self) -> Shape:
        """Voxels along (Z, Y, X)."""
        z, y, x = self.array.shape
        return z, y, x

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxel centres along (Z, Y, X)."""
        z, y, x = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(z), float(y), float(x)

    @property
    def first_mm(self) -> NDArray[np.float64]:
        """Centre of the first voxel along the grid's own axes (Z, Y, X), from the scanner's origin, in mm."""
        return np.linalg.solve(self.affine[:3, :3] / np.asarray(self.spacing_mm), self.affine[:3, 3])

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    def with_array(self, array: Array) -> Volume:
        """New values on the same grid, e.g. a mask or label map.  Raises GeometryError for another shape."""
        if array.shape != self.array.shape:
            raise GeometryError(
                f"values of shape {array.shape} do not fit a grid of shape {self.array.shape}",
                remedy="resample onto the grid before calling with_array",
            )
        return Volume(array, self.affine)

    def same_grid(self, other: Volume, tolerance_mm: float = 1e-2) -> bool:
        """Whether both have the same shape and all corner voxels agree within `tolerance_mm`."""
        if self.shape != other.shape:
            return False
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in self.shape], indexing="ij")).reshape(3, -1)
        gap = (self.affine - other.affine)[:3] @ np.vstack([corners, np.ones(corners.shape[1])])
        return bool(np.abs(gap).max() <= tolerance_mm)

    def crop(self, low: Shape, high: Shape) -> Volume:
        """The part with indices low <= (z, y, x) < high, at its place in the patient."""
        affine = self.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ np.asarray(low, np.float64)
        return Volume(self.array[tuple(slice(a, b) for a, b in zip(low, high, strict=True))], affine)


@dataclass(frozen=True)
class Reorientation:
    """Mapping of a grid's axes onto the canonical ones: Z feet to head, Y front to back, X right to left.

    axes:  canonical axis i is the grid's axis `axes[i]`.
    flips: whether canonical axis i runs against the grid's.
    """

    axes: Shape
    flips: tuple[bool, bool, bool]

    @classmethod
    def of(cls, volume: Volume) -> Reorientation:
        """Nearest axis permutation and flips; an oblique grid stays oblique by less than 45 degrees."""
        directions = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
        from scipy.optimize import linear_sum_assignment  # heavy import, needed here only

        patient = [2, 1, 0]  # canonical (Z, Y, X) run along patient (z, y, x)
        cost = -np.abs(directions[patient])  # (canonical axis, grid axis)
        _, columns = linear_sum_assignment(cost)
        axes = (int(columns[0]), int(columns[1]), int(columns[2]))
        flips = [bool(directions[patient[i], axes[i]] < 0) for i in range(3)]
        return cls(axes, (flips[0], flips[1], flips[2]))

    def apply(self, volume: Volume) -> Volume:
        """The same voxels with canonical axes (a view, not a copy)."""
        array = self.view(volume.array)
        affine = volume.affine[:, [*self.axes, 3]].copy()
        for axis, flip in enumerate(self.flips):
            if flip:
                affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
                affine[:3, axis] *= -1
        return Volume(array, affine)

    def view(self, array: Array) -> Array:
        """A writable view of an array of the grid on canonical axes (the leading three)."""
        seen = array.transpose([*self.axes, *range(3, array.ndim)])
        for axis, flip in enumerate(self.flips):
            if flip:
                seen = np.flip(seen, axis)
        return seen

    def undo(self, array: Array) -> Array:
        """An array on canonical axes (leading three) back in the grid's own axis order."""
        for axis, flip in enumerate(self.flips):
            if flip:
                array = np.flip(array, axis)
        inverse = [int(i) for i in np.argsort(self.axes)]
        return np.ascontiguousarray(array.transpose([*inverse, *range(3, array.ndim)]))
