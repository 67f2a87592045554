"""Read and write NIfTI. Only this module converts between RAS (NIfTI) and LPS (this package)."""

from __future__ import annotations

import gzip
import io
import logging
import math
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape, quoteattr

import nibabel
import numpy as np
from numpy.typing import NDArray

from diffseglung.io.scan import Scan, in_mm, reason, require_3d
from diffseglung.labels import ALL
from diffseglung.platform import atomic_files
from diffseglung.platform.errors import GeometryError, InputError
from diffseglung.platform.file_bounds import MOST_PACKED, require_holds
from diffseglung.platform.out_of_core import slabs, zeros
from diffseglung.volume import Volume

nib: Any = nibabel  # typed in part only

_UNITS = {1: "m", 2: "mm", 3: "um"}
"""Unit of length by the lower three bits of xyzt_units (nifti1.h); other values count as unstated, mm by convention."""
_COMMENT = 0  # extension code of the label table in files of TotalSegmentator and tools that read them


def read_nifti(path: Path | str) -> Volume:
    """The voxels as stored (integers stay integers; scaled data become float32) on the LPS grid of the header.

    Raises InputError for a file that is damaged or not a single 3D volume.
    """
    return read(Path(path)).volume


def read(path: Path) -> Scan:
    """As `read_nifti`, with notes on what the header does not state."""
    try:
        with _quiet():
            _require_header(path)
            image = nib.load(path, mmap=False, keep_file_open=path.name.lower().endswith(".gz"))
            shape = tuple(int(n) for n in image.shape)
            require_3d(path, shape)
            packed, size = path.name.lower().endswith(".gz"), math.prod(shape) * image.dataobj.dtype.itemsize
            require_holds(path, size, path.stat().st_size, packed=packed)
            array = _values(image)
            factors, source, unit_notes = in_mm([_UNITS.get(int(image.header["xyzt_units"]) & 7, "")])
            affine, notes = _affine(path, image, float(factors[0]))
    except InputError:
        raise
    except Exception as cause:  # a damaged or foreign file can fail anywhere in the reader
        raise InputError(
            f"{path} cannot be read as NIfTI ({reason(cause)})",
            remedy="copy or download the file again; if it is another format, give it that format's ending",
        ) from cause
    if array.dtype.kind not in "iufb":
        raise InputError(
            f"{path} holds {array.dtype} voxels, not one number each",
            remedy="export the CT as a plain volume in HU, not as colour or complex data",
        )
    return Scan.of(path, array, affine, notes + unit_notes, {"format": "NIfTI", **source})


class _Form(NamedTuple):
    """Size of a header, and offsets and types of its magic, number of axes and vox_offset (nifti1.h, nifti2.h)."""

    size: int
    magic: bytes
    magic_at: int
    axes: str
    axes_at: int
    begin: str
    begin_at: int


_FORMS = (_Form(348, b"n+1", 344, "h", 40, "f", 108), _Form(540, b"n+2", 4, "q", 16, "q", 168))


def _require_header(path: Path) -> None:
    """Raises ValueError unless voxels begin within the file and extensions end before them; nibabel does not check."""
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
    """Suppress nibabel's remarks on unusual headers; errors are raised."""
    logger = logging.getLogger("nibabel.global")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _values(image: Any) -> NDArray[Any]:
    """Voxels (Z, Y, X): unscaled data in their own type, scaled data as float32; read a few slices at a time."""
    proxy = image.dataobj
    plain = (proxy.slope, proxy.inter) == (1.0, 0.0)
    values = zeros(proxy.shape[2::-1], proxy.dtype.newbyteorder("=") if plain else np.float32)
    rest = (0,) * (len(proxy.shape) - 3)
    for planes in slabs(values):
        values[planes] = np.asarray(proxy[(slice(None), slice(None), planes, *rest)]).T
    return values


def _affine(path: Path, image: Any, mm: float) -> tuple[NDArray[np.float64], list[str]]:
    """The best affine of the header, from (z, y, x) to LPS, and notes on assumptions.  mm: length of one unit."""
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
    """Convert an affine from (x, y, z) to RAS (NIfTI, MONAI) into one from (z, y, x) to LPS (`Volume`).

    >>> lps_affine(np.diag([0.7, 0.8, 2.5, 1.0]))
    array([[ 0. ,  0. , -0.7,  0. ],
           [ 0. , -0.8,  0. ,  0. ],
           [ 2.5,  0. ,  0. ,  0. ],
           [ 0. ,  0. ,  0. ,  1. ]])
    """
    return np.asarray((np.diag([-1.0, -1.0, 1.0, 1.0]) @ ras)[:, [2, 1, 0, 3]])


def ras_affine(lps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse of `lps_affine`."""
    return np.asarray(np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps[:, [2, 1, 0, 3]])


def _usable(ras: NDArray[np.float64]) -> bool:
    """Whether an affine is finite and invertible."""
    return bool(np.isfinite(ras).all()) and bool(abs(np.linalg.det(ras[:3, :3])) > 1e-9)


def write_nifti(path: Path | str, volume: Volume, *, names: Mapping[int, str] | None = None) -> None:
    """Write a volume on its own grid, so that reading returns the same shape and affine; sform and qform are set.

    names: label id -> name, stored as a label table in a header extension (Caret XML, as TotalSegmentator does).
    Booleans become uint8. The bytes depend on the content only (no time stamp), and the file is complete or absent.

    >>> import tempfile
    >>> labels = Volume(np.ones((2, 3, 4), np.uint8), np.diag([1.0, 2.0, 3.0, 1.0]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_nifti(Path(folder) / "labels.nii.gz", labels, names={1: "healthy"})
    ...     read_nifti(Path(folder) / "labels.nii.gz").same_grid(labels)
    True
    """
    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise InputError(f"{path} does not have the name of a NIfTI file", remedy="use the ending .nii.gz or .nii")
    with (
        atomic_files.written(path) as part,
        part.open("wb") as file,
        gzip.GzipFile("", "wb", 4, file, mtime=0) if path.name.endswith(".gz") else nullcontext(file) as out,
    ):
        for piece in encode(volume, names=names):
            out.write(piece)


def encode(volume: Volume, *, names: Mapping[int, str] | None = None) -> Iterator[bytes | memoryview]:
    """The content of an uncompressed file of this volume, in parts: the header, then the voxels slab by slab."""
    header, dtype = _header(volume, names)
    yield header
    for planes in slabs(volume.array):
        yield np.ascontiguousarray(volume.array[planes], dtype).data.cast("B")


def _header(volume: Volume, names: Mapping[int, str] | None) -> tuple[bytes, np.dtype[Any]]:
    """The bytes before the voxels, and the voxels' type."""
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
    header.set_data_offset(0)  # nibabel computes the offset behind the extensions
    header.write_to(head)
    head.write(b"\0" * (header.get_data_offset() - head.tell()))
    return head.getvalue(), header.get_data_dtype()


def _orthogonal(ras: NDArray[np.float64]) -> bool:
    """Whether the axes are at right angles; a qform cannot represent shear."""
    axes = ras[:3, :3] / np.linalg.norm(ras[:3, :3], axis=0)
    return bool(np.allclose(axes.T @ axes, np.eye(3), atol=1e-4))


def _label_table(names: Mapping[int, str]) -> bytes:
    """Caret XML with one <Label> for each id, padded so that the extension is a multiple of 16 bytes."""
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
