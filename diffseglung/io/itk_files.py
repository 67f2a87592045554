"""Files of NRRD and MetaImage as ITK takes them, and what its readers leave out of their headers.

ITK has no bzip2, leaves units of length out, and SimpleITK ends the process for a path that is not UTF-8.
"""

from __future__ import annotations

import bz2
import math
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from diffseglung.io.archives import MAX_BYTES
from diffseglung.platform import serialization
from diffseglung.platform.errors import InputError
from diffseglung.platform.file_bounds import REMEDY

HEADER_BYTES, CHUNK_BYTES, LARGEST_VOXEL_BYTES = 65536, 1 << 20, 8
_END = re.compile(rb"\n\r?\n")
_NOT_COPIED = re.compile(rb"(encoding|line ?skip):(?!=)", re.IGNORECASE)
_DATA_FILE = re.compile(rb"data ?file:", re.IGNORECASE)


def units(path: Path) -> list[str]:
    """Units of length that a header states: for each axis of an NRRD file, one for a MetaImage."""
    head, _ = _head(path)
    if head.startswith(b"NRRD"):
        return re.findall(r'"([^"]*)"', _field(head, "space units") or _field(head, "units")) or [""]
    return [_field(head, "DistanceUnits")]


@contextmanager
def taken(path: Path, data: Sequence[Path]) -> Iterator[tuple[Path, list[Path]]]:
    """A header and its data files as ITK reads them: themselves where it does, else for a while in a temporary folder.

    data: the files beside a detached header that hold its voxels.  Raises InputError for damaged bzip2.
    """
    head, _ = _head(path)
    packed = head.startswith(b"NRRD") and _field(head, "encoding").lower() in ("bzip2", "bz2")
    if not packed and serialization.readable(str(path)) == str(path):
        yield path, [path, *data]
        return
    with tempfile.TemporaryDirectory(prefix="diffseglung-") as name:
        folder = Path(name)
        header = folder / f"scan{path.suffix.lower()}"
        if packed:
            yield header, [header, _unpacked(path, data, header)]
            return
        for link, file in ((header, path), *((folder / file.relative_to(path.parent), file) for file in data)):
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file.absolute())
        yield header, [header, *data]


def _head(path: Path) -> tuple[bytes, int]:
    """The lines of a header, and where what follows it begins."""
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
    end = _END.search(head) if head.startswith(b"NRRD") else None
    return (head[: end.start()], end.end()) if end else (head, len(head))


def _field(head: bytes, name: str) -> str:
    """The value of a line `name: value` or `name = value`; empty where there is none."""
    found = re.search(rb"^[ \t]*%s[ \t]*(?:=|:(?!=))([^\r\n]*)" % name.encode(), head, re.MULTILINE | re.IGNORECASE)
    return found[1].decode("utf-8", "replace").strip() if found else ""


def _unpacked(path: Path, data: Sequence[Path], header: Path) -> Path:
    """Write an NRRD file in bzip2 again as a detached header, with its voxels as they are in one file beside it."""
    head, end = _head(path)
    try:
        left = min(MAX_BYTES, LARGEST_VOXEL_BYTES * math.prod(int(n) for n in _field(head, "sizes").split()))
        skipped = int(_field(head, "line skip") or 0)
        voxels = header.with_name("voxels.raw")
        with voxels.open("wb") as out:
            for file in data or [path]:
                with file.open("rb") as packed:
                    packed.seek(0 if data else end)
                    for _ in range(skipped):
                        packed.readline()
                    with bz2.open(packed) as plain:
                        while chunk := plain.read(min(CHUNK_BYTES, left)):
                            left -= out.write(chunk)
    except (ValueError, EOFError, OSError) as cause:
        if isinstance(cause, OSError) and cause.errno is not None:
            raise
        raise InputError(f"{path} cannot be read as NRRD ({cause})", remedy=REMEDY) from cause
    lines = head.split(b"\n")
    lines = lines[: next((i for i, line in enumerate(lines) if _DATA_FILE.match(line)), None)]
    lines = [line for line in lines if not _NOT_COPIED.match(line)]
    header.write_bytes(b"\n".join([*lines, b"encoding: raw", b"data file: voxels.raw", b""]))
    return voxels
