"""NIfTI in and out. RAS (NIfTI) becomes LPS (here) in this module and nowhere else."""

from __future__ import annotations

import gzip
import io
import logging
import math
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any, NamedTuple
from xml.sax.saxutils import escape, quoteattr

import nibabel
import numpy as np
from numpy.typing import NDArray

from diffseglung.io.scan import Scan
from diffseglung.io.units import in_mm
from diffseglung.labels import ALL
from diffseglung.platform import atomic_files
from diffseglung.platform.errors import GeometryError, InputError
from diffseglung.platform.file_bounds import MOST_PACKED, require_holds
from diffseglung.platform.out_of_core import slabs, zeros
from diffseglung.volume import Volume

nib: Any = nibabel  # typed in part only

_UNITS = {1: "m", 2: "mm", 3: "um"}
"""Lengths by the lower three bits of xyzt_units (nifti1.h); any other is not told, and mm by custom."""
_COMMENT = 0  # extension code under which TotalSegmentator, and tools that read its files, keep the label table


def read_nifti(path: Path | str) -> Volume:
    """The voxels as stored (integers stay integers; scaled data become float32) on the LPS grid of the header.

    Raises InputError for a file that is damaged or not a single 3D volume.
    """
    return read(Path(path)).volume


def read(path: Path) -> Scan:
    """As `read_nifti`, with notes on what the header left open."""
    try:
        with _quiet():
            _require_header(path)
            image = nib.load(path, mmap=False, keep_file_open=path.name.lower().endswith(".gz"))
            shape = tuple(int(n) for n in image.shape)
            _require_3d(path, shape)
            packed, size = path.name.lower().endswith(".gz"), math.prod(shape) * image.dataobj.dtype.itemsize
            require_holds(path, size, path.stat().st_size, packed=packed)
            array = _values(image)
            factors, source, told = in_mm([_UNITS.get(int(image.header["xyzt_units"]) & 7, "")])
            affine, notes = _affine(path, image, float(factors[0]))
    except InputError:
        raise
    except Exception as cause:  # a damaged or foreign file can fail anywhere in the reader
        reason = next(iter(str(cause).splitlines()), type(cause).__name__)[:120]
        raise InputError(
            f"{path} cannot be read as NIfTI ({reason})",
            remedy="copy or download the file again; if it is another format, give it that format's ending",
        ) from cause
    if array.dtype.kind not in "iufb":
        raise InputError(
            f"{path} holds {array.dtype} voxels, not one number each",
            remedy="export the CT as a plain volume in HU, not as colour or complex data",
        )
    try:
        volume = Volume(array, affine)
    except GeometryError as error:
        raise GeometryError(f"{path}: {error.problem}", remedy=error.remedy) from error
    return Scan(volume, notes + told, {"format": "NIfTI", **source})


class _Form(NamedTuple):
    """Where a header tells its kind, its number of axes and where its voxels begin (nifti1.h, nifti2.h)."""

    size: int
    magic: bytes
    magic_at: int
    axes: str
    axes_at: int
    begin: str
    begin_at: int


_FORMS = (_Form(348, b"n+1", 344, "h", 40, "f", 108), _Form(540, b"n+2", 4, "q", 16, "q", 168))


def _require_header(path: Path) -> None:
    """A header whose voxels begin within the file and whose extensions end before them; nibabel would trust it."""
    packed = path.name.lower().endswith(".gz")
    most = path.stat().st_size * (MOST_PACKED if packed else 1)
    with gzip.open(path) if packed else path.open("rb") as file:
        head = file.read(_FORMS[-1].size + 4)
        form = next((f for f in _FORMS if head[f.magic_at :].startswith(f.magic) and len(head) >= f.size + 4), None)
        if form is None:
            raise ValueError("it has no such header")
        order = "<" if 1 <= struct.unpack_from(f"<{form.axes}", head, form.axes_at)[0] <= 7 else ">"
        begin, place = struct.unpack_from(order + form.begin, head, form.begin_at)[0], form.size + 4
        if not 0 <= begin <= most:
            raise ValueError(f"its voxels begin at byte {begin}")
        file.seek(place)
        while head[form.size] and place + 8 <= (begin or most):
            entry = file.read(8)
            length = struct.unpack(order + "i", entry[:4])[0] if len(entry) == 8 else 0
            if not 8 <= length <= (begin or most) - place:
                raise ValueError(f"a header extension has {length} bytes")
            file.seek(length - 8, io.SEEK_CUR)
            place += length


@contextmanager
def _quiet() -> Iterator[None]:
    """nibabel tells of odd headers on standard error; what matters is raised."""
    logger = logging.getLogger("nibabel.global")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _require_3d(path: Path, shape: tuple[int, ...]) -> None:
    if len(shape) >= 3 and 0 in shape:
        raise InputError(f"{path} has no voxels (shape {shape})", remedy="export the scan again from its source")
    if len(shape) < 3 or shape[2] == 1:
        raise InputError(
            f"{path} is a 2D image (shape {shape})", remedy="pass the whole scan: a volume with all its slices"
        )
    if any(n != 1 for n in shape[3:]):
        raise InputError(
            f"{path} has {int(np.prod(shape[3:]))} volumes (shape {shape})",
            remedy="pick one time point or channel and write it as a 3D file",
        )


def _values(image: Any) -> NDArray[Any]:
    """(Z, Y, X): unscaled data in their own type, scaled data in float32; read a few slices at a time."""
    proxy = image.dataobj
    plain = (proxy.slope, proxy.inter) == (1.0, 0.0)
    values = zeros(proxy.shape[2::-1], proxy.dtype.newbyteorder("=") if plain else np.float32)
    rest = (0,) * (len(proxy.shape) - 3)
    for planes in slabs(values):
        values[planes] = np.asarray(proxy[(slice(None), slice(None), planes, *rest)]).T
    return values


def _affine(path: Path, image: Any, mm: float) -> tuple[NDArray[np.float64], list[str]]:
    """The best affine of the header, RAS to LPS and (x, y, z) to (z, y, x), and what had to be assumed.  mm: a unit."""
    header, to_mm, notes = image.header, np.diag([mm, mm, mm, 1.0]), []
    ras = to_mm @ np.asarray(image.affine, np.float64)
    codes = [int(header[name]) if name in header else 0 for name in ("sform_code", "qform_code")]
    if not any(codes):
        notes.append("the NIfTI header gives no orientation; left and right may be swapped")
    elif all(codes):
        other = to_mm @ np.asarray(header.get_qform(), np.float64)
        if not _usable(ras):
            ras = other
            notes.append("the NIfTI sform is singular or not finite; the qform was used")
        elif not np.allclose(ras, other, atol=0.1):
            notes.append("the NIfTI sform and qform disagree; the sform was used")
    if not _usable(ras):
        raise GeometryError(
            f"{path} has no usable grid: its affine is singular or not finite",
            remedy="write the scan again from its source with a valid sform or qform",
        )
    return lps_affine(ras), notes


def lps_affine(ras: NDArray[np.float64]) -> NDArray[np.float64]:
    """From voxel (x, y, z) to a RAS point, as NIfTI and MONAI have it, to that of a `Volume`: (z, y, x) to LPS."""
    return np.asarray((np.diag([-1.0, -1.0, 1.0, 1.0]) @ ras)[:, [2, 1, 0, 3]])


def ras_affine(lps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse of `lps_affine`."""
    return np.asarray(np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps[:, [2, 1, 0, 3]])


def _usable(ras: NDArray[np.float64]) -> bool:
    """Whether an affine gives every voxel a place of its own."""
    return bool(np.isfinite(ras).all()) and bool(abs(np.linalg.det(ras[:3, :3])) > 1e-9)


def write_nifti(path: Path | str, volume: Volume, *, names: Mapping[int, str] | None = None) -> None:
    """Write on the same grid as it was read: same shape, same affine, sform and qform set.

    names: label id -> name, stored as a label table in a header extension (Caret XML, as TotalSegmentator does).
    Booleans become uint8. The bytes depend on the content only (no time stamp); a half-written file is never left.
    """
    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise InputError(f"{path} is not a NIfTI file by its name", remedy="use a name that ends in .nii.gz or .nii")
    with (
        atomic_files.written(path) as part,
        part.open("wb") as file,
        _compressed(file) if path.name.endswith(".gz") else nullcontext(file) as out,
    ):
        for piece in encode(volume, names=names):
            out.write(piece)


def encode(volume: Volume, *, names: Mapping[int, str] | None = None) -> Iterator[bytes | memoryview]:
    """What an uncompressed file of this volume holds, in parts: the header, then the voxels slab by slab."""
    header, dtype = _header(volume, names)
    yield header
    for planes in slabs(volume.array):
        yield np.ascontiguousarray(volume.array[planes], dtype).data.cast("B")


def _compressed(file: IO[bytes]) -> gzip.GzipFile:
    return gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=4, mtime=0)


def _header(volume: Volume, names: Mapping[int, str] | None) -> tuple[bytes, np.dtype[Any]]:
    """Everything before the voxels, and the type in which they follow."""
    dtype = np.dtype(np.uint8) if volume.array.dtype == bool else volume.array.dtype
    ras = ras_affine(volume.affine)
    image = nib.Nifti1Image(np.broadcast_to(np.zeros((), dtype), volume.shape[::-1]), ras, dtype=dtype)
    header = image.header
    header.set_xyzt_units("mm")
    header.set_sform(ras, code="scanner")
    if _orthogonal(ras):
        header.set_qform(ras, code="scanner")
    if names is not None:
        header["intent_code"] = 1002  # NIFTI_INTENT_LABEL
        header.extensions.append(nib.nifti1.Nifti1Extension(_COMMENT, _label_table(names)))
    image.update_header()
    head = io.BytesIO()
    header.set_slope_inter(1, 0)
    header.set_data_offset(0)  # nibabel finds the place behind the extensions
    header.write_to(head)
    head.write(b"\0" * (header.get_data_offset() - head.tell()))
    return head.getvalue(), header.get_data_dtype()


def _orthogonal(ras: NDArray[np.float64]) -> bool:
    """Whether a rotation with flips describes the grid; a qform cannot hold a shear."""
    axes = ras[:3, :3] / np.linalg.norm(ras[:3, :3], axis=0)
    return bool(np.allclose(axes.T @ axes, np.eye(3), atol=1e-4))


def _label_table(names: Mapping[int, str]) -> bytes:
    """Caret XML with one <Label> for each id, padded with blanks to the extension's unit of 16 bytes."""
    colours = {label.id: label.colour for label in ALL}
    rows = []
    for key, name in sorted(names.items()):
        red, green, blue = (f"{value / 255:.4f}" for value in colours.get(key, (150, 150, 150)))
        alpha = 0 if key == 0 else 1
        rows.append(
            f"<Label Key={quoteattr(str(key))} Red='{red}' Green='{green}' Blue='{blue}' Alpha='{alpha}'>"
            f"{escape(name)}</Label>"
        )
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<CaretExtension><VolumeInformation Index="0"><LabelTable>\n'
        + "\n".join(rows)
        + "\n</LabelTable><VolumeType>Label</VolumeType></VolumeInformation></CaretExtension>\n"
    ).encode()
    return text + b" " * (-(len(text) + 8) % 16)
