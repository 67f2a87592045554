"""Large arrays in unnamed temporary files, processed slab by slab, so that memory does not grow with the slices.

A scan of 1000 slices takes a gigabyte in float32. Of a mapped file only the part in use needs to be in memory, and
`slabs` releases the rest. If no such file can be made, the array is an ordinary one.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

LARGE_MIB, SLAB_MIB = 128, 16
"""Size from which arrays are kept in a file; size of a slab."""


def zeros(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An array of zeros; a large one in a temporary file in TMPDIR, which is deleted with the array."""
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if not is_large(size):
        return np.zeros(shape, dtype)
    try:
        with tempfile.TemporaryFile(prefix="diffseglung-") as file:
            os.posix_fallocate(file.fileno(), 0, size)  # fails here if the disk is full, not with SIGBUS later
            return np.memmap(file, dtype, "r+", shape=shape)
    except OSError:
        return np.zeros(shape, dtype)


def is_large(size: int) -> bool:
    """Whether an array of so many bytes is kept in a file, on this system."""
    able = hasattr(mmap, "MADV_DONTNEED") and hasattr(os, "posix_fallocate")
    return able and size >= LARGE_MIB * 2**20


def converted(array: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    """The values in another type; the array itself if it has that type."""
    if array.dtype == np.dtype(dtype):
        return array
    values = zeros(array.shape, dtype)
    for part in slabs(array, values):
        values[part] = array[part]
    return values


def release(array: NDArray[Any]) -> None:
    """Release the pages of a mapped file from memory; its values stay. Does nothing to other arrays."""
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)


def slabs(*arrays: NDArray[Any], step: int = 1, copies: int = 1) -> Iterator[slice]:
    """Slices along the first axis that the arrays share, multiples of `step` long except the last.

    A slab of the largest array has about SLAB_MIB, less if the work makes `copies` of it. Mapped arrays are released
    after each slab.

    >>> [(part.start, part.stop) for part in slabs(np.zeros((50, 1024, 1024), np.float32), step=8)]
    [(0, 8), (8, 16), (16, 24), (24, 32), (32, 40), (40, 48), (48, 50)]
    """
    count = len(arrays[0])
    widest = max(array.nbytes // max(len(array), 1) for array in arrays)
    thick = max(step, int(SLAB_MIB * 2**20 / max(widest * copies, 1)) // step * step)
    for start in range(0, count, thick):
        yield slice(start, min(start + thick, count))
        for array in arrays:
            release(array)
