"""NRRD and MetaImage, through SimpleITK. ITK's patient space is LPS, as here."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

from diffseglung.io.itk_files import HEADER_BYTES, taken, units
from diffseglung.io.scan import Scan
from diffseglung.io.units import in_mm
from diffseglung.platform.errors import GeometryError, InputError
from diffseglung.platform.file_bounds import MOST_AXES, MOST_PACKED, REMEDY, require_holds
from diffseglung.volume import Volume

CHUNK_BYTES, MOST_FILES = 1 << 14, 100_000
LONGEST_FIELD = 500
"""Letters of a field in an NRRD header; the library writes beyond its buffers from about 1000 on."""
_DATA_FILE = re.compile(r"(?:ElementDataFile\s*=|data ?file:)\s*(\S.*)", re.IGNORECASE)
sitk: Any = SimpleITK  # it carries no types


def read(path: Path) -> Scan:
    """Voxels as stored. Raises InputError for a file that is damaged or not a single 3D volume."""
    nrrd = path.suffix.lower() in (".nrrd", ".nhdr")
    _require_header(path, nrrd)
    with taken(path, _data_files(path)) as (header, files):
        image, keys = _image(path, header, files, nrrd)
    array = sitk.GetArrayFromImage(image)  # (..., Z, Y, X)
    affine, dimensions = np.eye(4), image.GetDimension()
    axes = np.reshape(image.GetDirection(), (dimensions, dimensions))[:3, :3] * np.array(image.GetSpacing()[:3])
    affine[:3, :3] = axes[:, ::-1]
    affine[:3, 3] = image.GetOrigin()[:3]
    factors, source, notes = in_mm(units(path))
    affine[:3] *= factors[:, None]
    if nrrd and "NRRD_space" not in keys:
        notes.append("the NRRD header gives no orientation; left and right may be swapped")
    try:
        volume = Volume(array.reshape(array.shape[-3:]), affine)
    except GeometryError as error:
        raise GeometryError(f"{path}: {error.problem}", remedy=error.remedy) from error
    return Scan(volume, notes, {"format": "NRRD" if nrrd else "MetaImage", **source})


def _image(path: Path, header: Path, files: list[Path], nrrd: bool) -> tuple[Any, tuple[str, ...]]:
    """The image that ITK reads, and the keys of what else its header told.  path: what to call it."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NrrdImageIO" if nrrd else "MetaImageIO")
    reader.SetFileName(str(header))
    try:
        with silent():
            reader.ReadImageInformation()
            size = reader.GetSize()
            _require_3d(path, size, reader.GetNumberOfComponents())
            bits = re.search(r"(\d+)-bit", sitk.GetPixelIDValueAsString(reader.GetPixelID()))
            stated = math.prod(size) * (int(bits[1]) if bits else 8) // 8
            require_holds(path, stated, sum(file.stat().st_size for file in files))
            if not nrrd:
                _require_stream(path, files, stated)
            return reader.Execute(), reader.GetMetaDataKeys()
    except RuntimeError as cause:
        lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
        reason = lines[-1].split("): ")[-1].replace(str(header), path.name)[:120] if lines else "unknown cause"
        raise InputError(
            f"{path} cannot be read as NRRD or MetaImage ({reason})",
            remedy="copy the file again, with its .raw or .zraw neighbour if it has one",
        ) from cause


def _require_header(path: Path, nrrd: bool) -> None:
    """ITK's MetaImage reader prints to stderr what it does not understand, so look first."""
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
    if not (head.startswith(b"NRRD") if nrrd else b"NDims" in head):
        raise InputError(
            f"{path} cannot be read as NRRD or MetaImage (it has no such header)",
            remedy="copy the file again; if it is another format, give it that format's ending",
        )
    fields = [line.rstrip(b"\r") for line in head.split(b"\n") if not line.startswith(b"#") and b":=" not in line[:256]]
    if nrrd and any(len(line) > LONGEST_FIELD for line in fields[: fields.index(b"") if b"" in fields else None]):
        raise InputError(
            f"{path} cannot be read as NRRD or MetaImage (a field of its header is too long)", remedy=REMEDY
        )
    if not nrrd and not any(_DATA_FILE.fullmatch(line.decode("latin1").strip()) for line in fields):
        raise InputError(f"{path} cannot be read as NRRD or MetaImage (it names no data file)", remedy=REMEDY)
    for key, text in re.findall(rb"^\s*(NDims|CompressedDataSize)\s*=\s*(\S*)", head, re.MULTILINE):
        most = MOST_AXES if key == b"NDims" else path.stat().st_size * MOST_PACKED
        if not (re.fullmatch(rb"[0-9]{1,15}", text) and 0 < int(text) <= most):  # ITK would trust it
            said = f"{key.decode()} = {text.decode('latin1')[:40]}"
            raise InputError(f"{path} cannot be read as NRRD or MetaImage ({said})", remedy=REMEDY)


def _require_stream(path: Path, files: list[Path], stated: int) -> None:
    """Compressed voxels of a MetaImage that are all there: its reader never comes back from a stream cut short."""
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
    if not re.search(rb"^\s*CompressedData\s*=\s*[Tt1]", head, re.MULTILINE):
        return
    end = re.search(rb"^\s*ElementDataFile\s*=[^\n]*\n", head, re.MULTILINE)
    start = end.end() if end and len(files) == 1 else 0
    unpack, held = zlib.decompressobj(32 + zlib.MAX_WBITS), 0  # zlib's or gzip's header
    try:
        with files[-1].open("rb") as file:
            file.seek(start)
            while not unpack.eof and held <= stated and (packed := file.read(CHUNK_BYTES)):
                held += len(unpack.decompress(packed))
    except zlib.error as cause:
        raise InputError(f"{path} cannot be read as NRRD or MetaImage ({cause})", remedy=REMEDY) from cause
    if len(files) > 2 or not unpack.eof or held != stated:
        problem = f"{path} cannot be read as NRRD or MetaImage (its compressed voxels are not {stated} bytes)"
        raise InputError(problem, remedy=REMEDY)


def _data_files(path: Path) -> list[Path]:
    """The files beside a detached header that hold its voxels.  Raises InputError for those that lie elsewhere."""
    with path.open("rb") as file:
        lines = re.split(r"\r?\n", file.read(HEADER_BYTES).decode("utf-8", "surrogateescape"))
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
    """The files that a pattern such as `slice%03d.raw 1 20 1` stands for: the first, the last, and the step."""
    try:
        first, last, step = (int(text) for text in (*numbers[:2], *(numbers[2:3] or ["1"])))
        return [pattern % number for number in range(first, last + 1, step)[:MOST_FILES]]
    except (ValueError, TypeError) as cause:
        raise InputError(f"a pattern of file names cannot be read: {pattern}", remedy="write one file") from cause


def _beside(path: Path, name: str) -> Path:
    """A data file in the folder of its header: an ordinary file, at no place that the header alone knows."""
    data = path.parent / name
    if Path(name).is_absolute() or ".." in Path(name.replace("\\", "/")).parts:
        raise InputError(f"{path} names a data file elsewhere: {name}", remedy="put it beside the header, and name it")
    try:
        there = data.is_file()
    except OSError:  # no file system takes such a name
        there = False
    if not there:
        raise InputError(
            f"{path} has no file {name[:255]} beside it", remedy=f"copy the file again, with its neighbour {name}"
        )
    return data


def _require_3d(path: Path, size: tuple[int, ...], components: int) -> None:
    shape = tuple(reversed(size))
    if components != 1:
        raise InputError(
            f"{path} holds {components} numbers a voxel", remedy="export the CT as a plain volume in HU, not in colour"
        )
    if len(size) < 3 or size[2] == 1:
        raise InputError(
            f"{path} is a 2D image (shape {shape})", remedy="pass the whole scan: a volume with all its slices"
        )
    if any(n != 1 for n in size[3:]):
        raise InputError(
            f"{path} has several volumes (shape {shape})", remedy="pick one time point and write it as a 3D file"
        )


@contextmanager
def silent() -> Iterator[None]:
    """ITK's own warnings off; what matters is raised."""
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)
