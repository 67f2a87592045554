"""NRRD and MetaImage, through SimpleITK. ITK's patient space is LPS, as here.

Headers are checked before ITK reads them, because some damaged files make it crash or hang. ITK has no bzip2, ignores
units of length, and SimpleITK ends the process for a path that is not UTF-8; these are handled here.
"""

from __future__ import annotations

import bz2
import math
import re
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

from diffseglung.io.archives import MAX_BYTES
from diffseglung.io.scan import Scan, in_mm, require_3d
from diffseglung.platform import serialization
from diffseglung.platform.errors import InputError
from diffseglung.platform.file_bounds import MOST_AXES, MOST_PACKED, REMEDY, require_holds

HEADER_BYTES, CHUNK_BYTES, LARGEST_VOXEL_BYTES, MOST_FILES = 65536, 1 << 20, 8, 100_000
ZLIB_CHUNK_BYTES = 1 << 14
"""Small, because what it unpacks to may be a thousand times larger."""
LONGEST_FIELD = 500
"""Characters of a field in an NRRD header; the library overruns its buffers from about 1000 on."""
_DATA_FILE = re.compile(r"(?:ElementDataFile\s*=|data ?file:)\s*(\S.*)", re.IGNORECASE)
_NRRD_END = re.compile(rb"\n\r?\n")
_NOT_COPIED = re.compile(rb"(encoding|line ?skip):(?!=)", re.IGNORECASE)
_NRRD_DATA_FILE = re.compile(rb"data ?file:", re.IGNORECASE)
sitk: Any = SimpleITK  # not typed


def read(path: Path) -> Scan:
    """Voxels as stored. Raises InputError for a file that is damaged or not a single 3D volume."""
    nrrd = path.suffix.lower() in (".nrrd", ".nhdr")
    with path.open("rb") as file:
        start = file.read(HEADER_BYTES)
    _require_header(path, start, nrrd)
    with _readable(path, start, _data_files(path, start)) as (header, files):
        image, keys = _image(path, header, files, nrrd)
    array = sitk.GetArrayFromImage(image)  # (..., Z, Y, X)
    affine, dimensions = np.eye(4), image.GetDimension()
    axes = np.reshape(image.GetDirection(), (dimensions, dimensions))[:3, :3] * np.array(image.GetSpacing()[:3])
    affine[:3, :3] = axes[:, ::-1]
    affine[:3, 3] = image.GetOrigin()[:3]
    factors, source, notes = in_mm(_units(start))
    affine[:3] *= factors[:, None]
    if nrrd and "NRRD_space" not in keys:
        notes.append("the NRRD header gives no orientation; left and right may be swapped")
    source["format"] = "NRRD" if nrrd else "MetaImage"
    return Scan.of(path, array.reshape(array.shape[-3:]), affine, notes, source)


def _image(path: Path, header: Path, files: list[Path], nrrd: bool) -> tuple[Any, tuple[str, ...]]:
    """The image that ITK reads, and the keys of its other metadata.  path: the file's name in messages."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NrrdImageIO" if nrrd else "MetaImageIO")
    reader.SetFileName(str(header))
    try:
        with silent():
            reader.ReadImageInformation()
            size = reader.GetSize()
            if reader.GetNumberOfComponents() != 1:
                raise InputError(
                    f"{path} has {reader.GetNumberOfComponents()} values per voxel",
                    remedy="export the CT as a plain volume in HU, not in colour",
                )
            require_3d(path, size)
            bits = re.search(r"(\d+)-bit", sitk.GetPixelIDValueAsString(reader.GetPixelID()))
            stated = math.prod(size) * (int(bits[1]) if bits else 8) // 8
            require_holds(path, stated, sum(file.stat().st_size for file in files))
            if not nrrd:
                _require_stream(path, files, stated)
            return reader.Execute(), reader.GetMetaDataKeys()
    except RuntimeError as cause:
        lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
        problem = lines[-1].split("): ")[-1].replace(str(header), path.name)[:120] if lines else "unknown cause"
        remedy = "copy the file again, with its .raw or .zraw neighbour if it has one"
        raise _unreadable(path, problem, remedy) from cause


def _unreadable(path: Path, problem: str, remedy: str = REMEDY) -> InputError:
    return InputError(f"{path} cannot be read as NRRD or MetaImage ({problem})", remedy=remedy)


def _require_header(path: Path, start: bytes, nrrd: bool) -> None:
    """Raises InputError for headers that make ITK print to stderr, crash, or trust an impossible number."""
    if not (start.startswith(b"NRRD") if nrrd else b"NDims" in start):
        raise _unreadable(
            path,
            "it has no such header",
            "copy the file again; if it is another format, give it that format's ending",
        )
    lines = [line.rstrip(b"\r") for line in start.split(b"\n")]
    fields = [line for line in lines if not line.startswith(b"#") and b":=" not in line[:256]]
    if nrrd and any(len(line) > LONGEST_FIELD for line in fields[: fields.index(b"") if b"" in fields else None]):
        raise _unreadable(path, "a field of its header is too long")
    if not nrrd and not any(_DATA_FILE.fullmatch(line.decode("latin1").strip()) for line in fields):
        raise _unreadable(path, "it names no data file")
    for key, text in re.findall(rb"^\s*(NDims|CompressedDataSize)\s*=\s*(\S*)", start, re.MULTILINE):
        most = MOST_AXES if key == b"NDims" else path.stat().st_size * MOST_PACKED
        if not (re.fullmatch(rb"[0-9]{1,15}", text) and 0 < int(text) <= most):
            raise _unreadable(path, f"{key.decode()} = {text.decode('latin1')[:40]}")


def _require_stream(path: Path, files: list[Path], stated: int) -> None:
    """Raises InputError unless the compressed voxels of a MetaImage are complete; ITK hangs on a truncated stream."""
    with path.open("rb") as file:
        start = file.read(HEADER_BYTES)
    if not re.search(rb"^\s*CompressedData\s*=\s*[Tt1]", start, re.MULTILINE):
        return
    end = re.search(rb"^\s*ElementDataFile\s*=[^\n]*\n", start, re.MULTILINE)
    unpack, held = zlib.decompressobj(32 + zlib.MAX_WBITS), 0  # a zlib or a gzip header
    try:
        with files[-1].open("rb") as file:
            file.seek(end.end() if end and len(files) == 1 else 0)
            while not unpack.eof and held <= stated and (packed := file.read(ZLIB_CHUNK_BYTES)):
                held += len(unpack.decompress(packed))
    except zlib.error as cause:
        raise _unreadable(path, str(cause)) from cause
    if len(files) > 2 or not unpack.eof or held != stated:
        raise _unreadable(path, f"its compressed voxels are not {stated} bytes")


def _data_files(path: Path, start: bytes) -> list[Path]:
    """The voxel files of a detached header.  Raises InputError if they do not lie beside it."""
    lines = re.split(r"\r?\n", start.decode("utf-8", "surrogateescape"))
    for place, line in enumerate(lines):
        named = _DATA_FILE.fullmatch(line.strip())
        if named is None:
            continue
        first, *numbers = named[1].split()
        if first.upper() == "LOCAL":
            return []
        names = [text.strip() for text in lines[place + 1 :] if text.strip()] if first.upper() == "LIST" else [named[1]]
        return [_beside(path, name) for name in (_numbered(first, numbers) if "%" in first else names)]
    return []


def _numbered(pattern: str, numbers: list[str]) -> list[str]:
    """The file names of a pattern such as `slice%03d.raw 1 20 1`: first number, last number, and optional step."""
    try:
        first, last, step = (int(text) for text in (*numbers[:2], *(numbers[2:3] or ["1"])))
        return [pattern % number for number in range(first, last + 1, step)[:MOST_FILES]]
    except (ValueError, TypeError) as cause:
        raise InputError(f"a pattern of file names cannot be read: {pattern}", remedy="write one file") from cause


def _beside(path: Path, name: str) -> Path:
    """An ordinary data file in the folder of its header, or below it."""
    data = path.parent / name
    if Path(name).is_absolute() or ".." in Path(name.replace("\\", "/")).parts:
        raise InputError(
            f"{path} names a data file elsewhere: {name}", remedy="move the data file beside the header and name it so"
        )
    try:
        there = data.is_file()
    except OSError:  # a name that no file system allows
        there = False
    if not there:
        raise InputError(
            f"{path} has no file {name[:255]} beside it", remedy=f"copy the file again, with its neighbour {name}"
        )
    return data


def _units(start: bytes) -> list[str]:
    """Units of length in a header: one for each axis of an NRRD file, one for a MetaImage."""
    head = _header_lines(start)
    if start.startswith(b"NRRD"):
        return re.findall(r'"([^"]*)"', _field(head, "space units") or _field(head, "units")) or [""]
    return [_field(head, "DistanceUnits")]


@contextmanager
def _readable(path: Path, start: bytes, data: Sequence[Path]) -> Iterator[tuple[Path, list[Path]]]:
    """The header and all files for ITK: the originals, or copies in a temporary folder if ITK cannot read those.

    data: the voxel files of a detached header.  Raises InputError for damaged bzip2.
    """
    packed = start.startswith(b"NRRD") and _field(_header_lines(start), "encoding").lower() in ("bzip2", "bz2")
    if not packed and serialization.readable(str(path)) == str(path):
        yield path, [path, *data]
        return
    with tempfile.TemporaryDirectory(prefix="diffseglung-") as name:
        folder = Path(name)
        header = folder / f"scan{path.suffix.lower()}"
        if packed:
            yield header, [header, _unpacked(path, start, data, header)]
            return
        for link, file in ((header, path), *((folder / file.relative_to(path.parent), file) for file in data)):
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file.absolute())
        yield header, [header, *data]


def _header_lines(start: bytes) -> bytes:
    """The header at the start of a file; of NRRD, the part before the empty line that ends it."""
    end = _NRRD_END.search(start) if start.startswith(b"NRRD") else None
    return start[: end.start()] if end else start


def _field(head: bytes, name: str) -> str:
    """The value of a line `name: value` or `name = value`; empty if there is none."""
    found = re.search(rb"^[ \t]*%s[ \t]*(?:=|:(?!=))([^\r\n]*)" % name.encode(), head, re.MULTILINE | re.IGNORECASE)
    return found[1].decode("utf-8", "replace").strip() if found else ""


def _unpacked(path: Path, start: bytes, data: Sequence[Path], header: Path) -> Path:
    """Write a bzip2 NRRD file as a detached header and one raw file beside it; returns the raw file."""
    head, end = _header_lines(start), _NRRD_END.search(start)
    try:
        left = min(MAX_BYTES, LARGEST_VOXEL_BYTES * math.prod(int(n) for n in _field(head, "sizes").split()))
        skipped = int(_field(head, "line skip") or 0)
        voxels = header.with_name("voxels.raw")
        with voxels.open("wb") as out:
            for file in data or [path]:
                with file.open("rb") as packed:
                    packed.seek(0 if data else end.end() if end else len(start))
                    for _ in range(skipped):
                        packed.readline()
                    with bz2.open(packed) as plain:
                        while chunk := plain.read(min(CHUNK_BYTES, left)):
                            left -= out.write(chunk)
    except (ValueError, EOFError, OSError) as cause:
        if isinstance(cause, OSError) and cause.errno is not None:
            raise
        raise _unreadable(path, str(cause)) from cause
    lines = head.split(b"\n")
    lines = lines[: next((i for i, line in enumerate(lines) if _NRRD_DATA_FILE.match(line)), None)]
    lines = [line for line in lines if not _NOT_COPIED.match(line)]
    header.write_bytes(b"\n".join([*lines, b"encoding: raw", b"data file: voxels.raw", b""]))
    return voxels


@contextmanager
def silent() -> Iterator[None]:
    """Suppress ITK's own warnings; errors are raised."""
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)
