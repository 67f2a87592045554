"""Training cases on disk: `<dataset>__<patient>.npz` with the keys `ct`, `mask` and `meta`.

`ct` is float32, normalised by the published window, norm = (HU + 1000) / 700 - 1, and clipped to [-1, 1]; `mask` is
uint8 (0 outside, 1 lung, or 1 right and 2 left); `meta` is JSON text (affine, spacing_mm, dataset, source) and
optional. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffseglung.io.scan import Scan, reason
from diffseglung.platform import atomic_files, serialization
from diffseglung.platform.config import IntensityConfig
from diffseglung.platform.errors import GeometryError, InputError
from diffseglung.platform.file_bounds import npy_header, require_holds
from diffseglung.volume import Volume

KEYS = ("ct", "mask", "meta")
_WINDOW = IntensityConfig()
_HALF = (_WINDOW.high_hu - _WINDOW.low_hu) / 2
_ASSUMED = "the case gives no voxel spacing; 1 mm was assumed"
_NORMALISE = "store norm = (HU + 1000) / 700 - 1, clipped to [-1, 1]"


@dataclass(frozen=True, eq=False)
class Case:
    """One training case.

    ct: HU, float32.  lungs: uint8 on the same grid; 0 outside, 1 right, 2 left (or 1 for both).
    meta: plain JSON values; the key `notes` holds sentences for the user.

    >>> air = Volume(np.full((2, 2, 2), -1000, np.float32), np.eye(4))
    >>> Case("osic__0042", air, air.with_array(np.ones((2, 2, 2), np.uint8))).dataset
    'osic'
    """

    name: str
    ct: Volume
    lungs: Volume
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def dataset(self) -> str:
        """The part of the name before the double underscore; empty if there is none."""
        head, mark, _ = self.name.partition("__")
        return head if mark else ""


def read_case(path: Path | str) -> Case:
    """Read one case. Raises InputError if the file is damaged, pickled, lacks a key, or has an empty mask."""
    path = Path(path)
    arrays = _load(path)
    scan = _scan(path, arrays)
    if "mask" not in arrays:
        raise InputError(f"{path} has no lung mask (key `mask`)", remedy="create the case with `diffseglung convert`")
    mask = arrays["mask"]
    if mask.shape != scan.volume.shape:
        raise GeometryError(
            f"{path}: the mask has shape {mask.shape}, the CT {scan.volume.shape}",
            remedy="create the case again with a mask on the grid of its CT",
        )
    if mask.dtype.kind not in "biuf":
        raise InputError(f"{path}: the mask holds {mask.dtype} values", remedy="store numbers, 1 in the lungs")
    if not (mask > 0).any():
        raise InputError(f"{path} has an empty lung mask", remedy="create the case again with `diffseglung convert`")
    lungs = mask.astype(np.uint8) if mask.max() <= 2 else (mask > 0).astype(np.uint8)
    meta = dict(scan.source)
    if scan.notes:
        meta["notes"] = list(scan.notes)
    return Case(path.stem, scan.volume, scan.volume.with_array(lungs), meta)


def read(path: Path) -> Scan:
    """The CT of a case in HU; it needs no mask."""
    return _scan(path, _load(path))


def write_case(path: Path | str, case: Case, *, compress: bool = True) -> None:
    """Write a case, complete or not at all. HU outside the published window are clipped.

    compress: False stores the arrays uncompressed: several times larger, and many times faster to read.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise InputError(f"{path} does not have the name of a case file", remedy="use the ending .npz")
    if not case.ct.same_grid(case.lungs):
        raise GeometryError(
            f"case {case.name}: lungs and CT lie on different grids", remedy="create the lung mask from this CT"
        )
    if not np.isfinite(case.ct.array).all():
        raise InputError(f"case {case.name} holds NaN or infinite voxels", remedy="set them to -1024 HU first")
    norm = np.clip((case.ct.array.astype(np.float32) - _WINDOW.low_hu) / _HALF - 1, -1, 1).astype(np.float32)
    spacing = [float(s) for s in case.ct.spacing_mm]
    meta = {**case.meta, "affine": case.ct.affine.tolist(), "spacing_mm": spacing, "dataset": case.dataset}
    save = np.savez_compressed if compress else np.savez
    with atomic_files.written(path) as part, part.open("wb") as file:
        save(file, ct=norm, mask=case.lungs.array.astype(np.uint8), meta=np.array(json.dumps(meta, sort_keys=True)))


def iter_cases(folder: Path | str, dataset: str | None = None) -> list[Path]:
    """The case files of a folder, sorted by name.  dataset: only names that begin with it.

    Raises InputError if there are none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(
            f"{folder} is not a folder", remedy="pass the folder of .npz cases that `diffseglung convert` wrote"
        )
    found = sorted(path for path in folder.glob("*.npz") if path.name.startswith(dataset or ""))
    if not found:
        wanted = f"cases of dataset {dataset!r}" if dataset else "cases (*.npz)"
        raise InputError(
            f"{folder} holds no {wanted}",
            remedy="create cases with `diffseglung convert -i SCANS -o FOLDER`, or check the dataset's name",
        )
    return found


def without_spacing(paths: Iterable[Path]) -> list[Path]:
    """The cases without voxel spacing, for which 1 mm was assumed; their arrays are not read. Skips damaged files."""
    found = []
    for path in paths:
        with suppress(InputError, OSError):
            meta = _meta(path, _load(path, ("meta",)))
            earlier = meta.get("notes")
            if _grid(path, meta)[1] or (isinstance(earlier, list) and _ASSUMED in earlier):
                found.append(path)
    return found


def _load(path: Path, keys: Sequence[str] = KEYS) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        raise InputError(f"{path} does not exist", remedy="check the path; cases are .npz files")
    with path.open("rb") as file:
        magic = file.read(6)
    if magic == b"\x93NUMPY":
        raise InputError(f"{path} is a single array", remedy="write it with np.savez(path, ct=..., mask=...)")
    if magic.startswith(b"\x80"):  # a pickle; np.load reports one for any unknown file
        raise _pickled(path)
    try:
        if not magic.startswith(b"PK"):
            raise ValueError("it is not a zip archive")
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            _require_sizes(path)
            return {name: archive[name] for name in keys if name in archive.files}
    except InputError:
        raise
    except Exception as cause:  # a damaged file can fail anywhere in the reader
        if "allow_pickle" in str(cause):
            raise _pickled(path) from cause
        raise InputError(
            f"{path} cannot be read as an NPZ case ({reason(cause)})", remedy="copy or create the file again"
        ) from cause


def _require_sizes(path: Path) -> None:
    """Raises InputError if a header states more data than the file can hold; NumPy would allocate it."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.filename.removesuffix(".npy") not in KEYS:
                continue
            require_holds(path, member.file_size, member.compress_size)
            with archive.open(member) as file:
                shape, _, kind = npy_header(file)
            require_holds(path, math.prod(shape) * kind.itemsize, member.file_size, packed=False)


def _pickled(path: Path) -> InputError:
    return InputError(
        f"{path} holds pickled objects, which are never opened because they can run code",
        remedy="write it again with np.savez(path, ct=..., mask=..., meta=json.dumps(...))",
    )


def _scan(path: Path, arrays: dict[str, NDArray[Any]]) -> Scan:
    if "ct" not in arrays:
        raise InputError(f"{path} has no CT (key `ct`)", remedy="write it with np.savez(path, ct=..., mask=...)")
    ct, notes, meta = arrays["ct"], [], _meta(path, arrays)
    if ct.dtype.kind not in "fiu" or ct.ndim != 3 or ct.size == 0:
        raise InputError(
            f"{path}: `ct` has shape {ct.shape} and type {ct.dtype}", remedy="store one 3D array of numbers (Z, Y, X)"
        )
    ct = ct.astype(np.float32)
    if ct.min() >= -0.001:
        raise InputError(
            f"{path}: `ct` runs from {ct.min():g} to {ct.max():g}, without air: it is neither normalised nor HU",
            remedy=f"{_NORMALISE}; do not scale it to 0..1 or 0..255",
        )
    if np.isfinite(ct).all() and (ct.min() < -1.05 or ct.max() > 1.05):
        if ct.min() > -200:
            raise InputError(
                f"{path}: `ct` runs from {ct.min():g} to {ct.max():g}, which is neither normalised nor HU",
                remedy=_NORMALISE,
            )
        notes.append("the case holds HU instead of normalised values; they were used as they are")
    else:
        ct = (ct + 1) * np.float32(_HALF) + np.float32(_WINDOW.low_hu)
    affine, note = _grid(path, meta)
    source = {key: value for key, value in meta.items() if key not in ("affine", "spacing_mm", "spacing", "notes")}
    earlier = meta.get("notes")
    notes = [*(earlier if isinstance(earlier, list) else []), *notes, *note]
    return Scan.of(path, ct, affine, [str(text) for text in notes], {"format": "NPZ case", **source})


def _meta(path: Path, arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    if "meta" not in arrays:
        return {}
    try:
        value = arrays["meta"].reshape(-1)[0]
        meta = serialization.parse(value.decode() if isinstance(value, bytes) else str(value))
    except (ValueError, IndexError) as cause:
        raise InputError(
            f"{path}: `meta` is not JSON text", remedy="store meta=json.dumps(...), or leave it out"
        ) from cause
    return meta if isinstance(meta, dict) else {}


def _grid(path: Path, meta: dict[str, Any]) -> tuple[NDArray[np.float64], list[str]]:
    """The affine in `meta`, else canonical axes with the spacing in `meta`, else with 1 mm; and notes."""
    try:
        if "affine" in meta:
            return np.array(meta["affine"], np.float64), []
        spacing = meta.get("spacing_mm", meta.get("spacing"))
        steps = [1.0, 1.0, 1.0] if spacing is None else [float(s) for s in np.broadcast_to(spacing, 3)]
    except (ValueError, TypeError) as cause:
        raise InputError(
            f"{path}: the affine or spacing in `meta` is not a list of numbers",
            remedy="store spacing_mm as three numbers (Z, Y, X), or leave it out",
        ) from cause
    affine = np.zeros((4, 4))
    affine[[2, 1, 0, 3], [0, 1, 2, 3]] = [*steps, 1.0]
    return affine, [_ASSUMED] if spacing is None else []
