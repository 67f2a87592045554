"""Large arrays live in unnamed temporary files, and are worked on slab by slab: memory does not grow with the slices.

A scan of 1000 slices holds a gigabyte in float32. In a mapped file the system keeps in memory what is being worked on,
and `slabs` hands back what was. Where no such file can be made, the array is an ordinary one.
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
"""Arrays from this size on live in a file; how much of an array is worked on at a time."""


def zeros(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An array of zeros; a large one in a temporary file of the folder that TMPDIR names, which ends with the array."""
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if not is_large(size):
        return np.zeros(shape, dtype)
    try:
        with tempfile.TemporaryFile(prefix="diffseglung-") as file:
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk is told here, not by a signal later
            return np.memmap(file, dtype, "r+", shape=shape)
    except OSError:
        return np.zeros(shape, dtype)


def is_large(size: int) -> bool:
    """Whether an array of so many bytes lives in a file, on this system."""
    able = hasattr(mmap, "MADV_DONTNEED") and hasattr(os, "posix_fallocate")
    return able and size >= LARGE_MIB * 2**20


def converted(array: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    """The values in another type; the array itself where it has that type."""
    if array.dtype == np.dtype(dtype):
        return array
    values = zeros(array.shape, dtype)
    for part in slabs(array, values):
        values[part] = array[part]
    return values


def release(array: NDArray[Any]) -> None:
    """Take the pages of a mapped file out of memory; its values stay. Nothing happens to other arrays."""
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)


def slabs(*arrays: NDArray[Any], step: int = 1, copies: int = 1) -> Iterator[slice]:
    """Slices along the first axis of arrays that share it, a multiple of `step` each, the last one as it comes.

    About SLAB_MIB of the largest array are at hand at a time, less where the work makes `copies` of it; mapped files
    are handed back after each slab.
    """
    count = len(arrays[0])
    widest = max(array.nbytes // max(len(array), 1) for array in arrays)
    thick = max(step, int(SLAB_MIB * 2**20 / max(widest * copies, 1)) // step * step)
    for start in range(0, count, thick):
        yield slice(start, min(start + thick, count))
        for array in arrays:
            release(array)
