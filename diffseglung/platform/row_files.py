"""Rows of large arrays in .npy files, accessed with ordinary reads and writes.

Not memory-mapped: on a full disk or a lost network file system, access to a map kills the process (SIGBUS), while a
read or write raises OSError.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from diffseglung.platform.errors import InputError
from diffseglung.platform.file_bounds import npy_header, require_holds

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class StoredRows:
    """An array (N, ...) in an .npy file of C order; `rows[i]`, `rows[a:b]` and `rows[[i, j]]` read from the file."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read the header.  Raises InputError for another format, a truncated file, or pickled objects."""
        try:
            with path.open("rb") as file:
                shape, fortran, kind = npy_header(file)
                offset = file.tell()
            held = path.stat().st_size - offset
        except Exception as cause:  # a damaged header can fail anywhere in the reader
            reason = next(iter(str(cause).splitlines()), type(cause).__name__)[:120]
            raise InputError(f"cannot read {path}: {reason}", remedy="run precompute again") from cause
        if not shape or (fortran and len(shape) > 1):
            raise InputError(f"{path} is not an array of rows in C order", remedy="run precompute again")
        require_holds(path, math.prod(shape) * kind.itemsize, held, packed=False)
        return cls(path, shape, kind, offset)

    @classmethod
    def create(cls, path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> Self:
        """A new file of zeros with its disk space reserved.  Raises OSError if the disk is full."""
        kind = np.dtype(dtype)
        header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            offset = file.tell()
            size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
            if hasattr(os, "posix_fallocate") and size:
                os.posix_fallocate(file.fileno(), offset, size)
            else:
                file.truncate(offset + size)
        return cls(path, shape, kind, offset)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, which: int | slice | Sequence[int] | NDArray[np.int64]) -> Array:
        if isinstance(which, slice):
            start, stop, step = which.indices(len(self))
            if step == 1:
                with self.path.open("rb") as file:
                    return self._read(file, start, max(stop - start, 0))
            which = range(start, stop, step)
        wanted = np.asarray(which, np.int64)
        rows = np.empty((wanted.size, *self.shape[1:]), self.dtype)
        with self.path.open("rb") as file:
            for place, index in enumerate(wanted.ravel().tolist()):
                if not -len(self) <= index < len(self):
                    raise IndexError(f"row {index} of {len(self)}")
                rows[place] = self._read(file, index % len(self), 1)[0]
        return np.asarray(rows.reshape(*wanted.shape, *self.shape[1:]))

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        return np.asarray(self[:], dtype)

    def write(self, start: int, rows: Array) -> None:
        """Write rows from `start` on, and flush them to disk."""
        content = np.ascontiguousarray(rows, self.dtype)
        if content.shape[1:] != self.shape[1:] or start + len(content) > len(self):
            raise ValueError(f"{content.shape} does not fit {self.shape} from {start}")
        with self.path.open("r+b") as file:
            file.seek(self.offset + start * self._row_bytes)
            file.write(content.data if content.size else b"")
            file.flush()
            os.fsync(file.fileno())

    @property
    def _row_bytes(self) -> int:
        return int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize

    def _read(self, file: BinaryIO, start: int, count: int) -> Array:
        file.seek(self.offset + start * self._row_bytes)
        content = file.read(count * self._row_bytes)
        if len(content) != count * self._row_bytes:
            raise InputError(f"{self.path} has become shorter", remedy="restore the file, or make it again")
        return np.frombuffer(content, self.dtype).reshape(count, *self.shape[1:])
