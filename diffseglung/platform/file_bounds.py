"""Check the size that a header states against the size of the file, before anything is allocated."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from diffseglung.platform.errors import InputError

MOST_AXES, MOST_PACKED = 8, 1032
"""Largest number of axes; largest compression ratio of deflate (https://zlib.net/zlib_tech.html)."""
REMEDY = "copy or download the file again"


def require_holds(path: Path, stated_bytes: int, held_bytes: int, *, packed: bool = True) -> None:
    """Raise InputError if `held_bytes` cannot hold `stated_bytes` of voxels.  packed: compressed by deflate."""
    if stated_bytes > held_bytes * (MOST_PACKED if packed else 1):
        raise InputError(
            f"{path} is damaged: it states {stated_bytes / 2**20:,.1f} MiB of voxels, more than it can hold",
            remedy=REMEDY,
        )


def npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, Fortran order and type of an .npy file; the file is then positioned at its array.

    Raises ValueError for pickled objects and unsupported arrays, and any error for a damaged file.
    """
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(file)
    shape, fortran, kind = read[version](file)
    if kind.hasobject:
        raise ValueError("it holds pickled objects (allow_pickle)")
    if kind.kind not in "biufSU" or kind.itemsize == 0 or any(n < 0 for n in shape) or len(shape) > MOST_AXES:
        raise ValueError(f"an array of shape {str(shape)[:60]} and type {str(kind)[:60]}")
    return shape, fortran, kind


def require_stored(path: Path) -> None:
    """Raise ValueError unless the file is a ZIP archive with uncompressed members, as `torch.save` writes it.

    PyTorch allocates the stated size of a record, compressed or not.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, struct.error) as cause:
        raise ValueError("it is no archive of tensors") from cause
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("its tensors are compressed")
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise ValueError("it states more than it holds")
