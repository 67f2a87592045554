"""Scans enlarged by whole factors, with each voxel stored several times, as exported by viewers and some archives.

Smoothing and noise are judged by voxel size, and copies are not finer voxels. So such a scan is processed without the
copies, and the result is repeated.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd, prod

import numpy as np

from diffseglung.io.plausibility import SPACING_MM
from diffseglung.platform.out_of_core import release, slabs, zeros
from diffseglung.volume import Array, Shape, Volume


@dataclass(frozen=True)
class Repeats:
    """times: how often each voxel is stored along (Z, Y, X).

    >>> volume = Volume(np.repeat(np.arange(8.0).reshape(2, 2, 2), 3, axis=2), np.diag([1.0, 1.0, 1.0, 1.0]))
    >>> repeats = Repeats.of(volume)
    >>> repeats.times, repeats.once(volume).shape
    ((1, 1, 3), (2, 2, 2))
    """

    times: Shape = (1, 1, 1)

    @classmethod
    def of(cls, *volumes: Volume) -> Repeats:
        """Factors by which all these volumes of one grid were enlarged; 1 along an axis without changes."""
        shape, spacing_mm = volumes[0].shape, volumes[0].spacing_mm
        times = [_times([volume.array for volume in volumes], axis) for axis in range(3)]
        plausible = [t < n and t * mm <= SPACING_MM[1] for t, n, mm in zip(times, shape, spacing_mm, strict=True)]
        z, y, x = (t if kept else 1 for t, kept in zip(times, plausible, strict=True))
        return cls((z, y, x))

    @property
    def copies(self) -> int:
        """Stored voxels per original voxel."""
        return prod(self.times)

    def once(self, volume: Volume) -> Volume:
        """The volume without copies, a view."""
        if self.copies == 1:
            return volume
        affine = volume.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ ((np.asarray(self.times) - 1) / 2)
        affine[:3, :3] *= self.times
        z, y, x = self.times
        return Volume(volume.array[::z, ::y, ::x], affine)

    def again(self, array: Array) -> Array:
        """Values (Z, Y, X, ...) of the original voxels, repeated."""
        if self.copies == 1:
            return array
        counts = [n * t for n, t in zip(array.shape, self.times, strict=False)]
        out = zeros((*counts, *array.shape[3:]), array.dtype)
        for planes in slabs(array, copies=self.copies):
            part = array[planes]
            for axis, times in enumerate(self.times):
                part = np.repeat(part, times, axis)
            out[planes.start * self.times[0] : planes.stop * self.times[0]] = part
            release(out)
        return out

    def notes(self) -> list[str]:
        """A note for the user if there are copies."""
        stored = " x ".join(map(str, self.times))
        return [f"each voxel is stored {stored} times (Z, Y, X): processed as one"] if self.copies > 1 else []


def own_voxels(ct: Volume, mask: Volume | None) -> tuple[Repeats, Volume, Volume | None]:
    """How often voxels of a scan and its mask are stored, and both without copies.

    A mask on another grid is unchanged.
    """
    if mask is None or not mask.same_grid(ct):
        repeats = Repeats.of(ct)
        return repeats, repeats.once(ct), mask
    repeats = Repeats.of(ct, mask)
    return repeats, repeats.once(ct), repeats.once(mask)


def _times(arrays: list[Array], axis: int) -> int:
    """Greatest common divisor of the indices at which any array changes along an axis, and of its length.

    A plane through the middle settles almost every scan; all planes are read only if that one has repeats.
    """
    across = 1 if axis == 0 else 0
    middle = [array.take(array.shape[across] // 2, across) for array in arrays]  # (n, m), axis first or last of them
    found = _divisor(middle, 0 if axis < 2 else 1, 0)
    if found == 1:
        return 1
    if axis == 0:
        for array in arrays:
            found = _along_slices(array, found)
        return gcd(found, arrays[0].shape[0])
    for array in arrays:
        for planes in slabs(array):
            found = _divisor([array[planes]], axis, found)
            if found == 1:
                return 1
    return gcd(found, arrays[0].shape[axis])


def _divisor(arrays: list[Array], axis: int, found: int) -> int:
    """gcd of `found` and the indices at which planes across `axis` differ from the previous one."""
    for array in arrays:
        moved = np.moveaxis(array, axis, 0)
        changes = (moved[1:] != moved[:-1]).any(tuple(range(1, moved.ndim)))
        found = gcd(found, *(int(i) + 1 for i in np.flatnonzero(changes)))
    return found


def _along_slices(array: Array, found: int) -> int:
    """The same for slices along Z; those at multiples of `found` may differ."""
    for index in range(1, len(array)):
        if (not found or index % found) and not np.array_equal(array[index], array[index - 1]):
            found = gcd(found, index)
            if found == 1:
                break
        release(array)
    return found
