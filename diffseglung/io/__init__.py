"""Scans and masks from files of any supported format: one function for each, and a specific error for each defect."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from diffseglung.io.plausibility import check_hu, quality_notes
from diffseglung.io.scan import UNIT, Frame, Scan
from diffseglung.platform.errors import InputError
from diffseglung.platform.out_of_core import converted, slabs
from diffseglung.platform.serialization import readable
from diffseglung.volume import Array, Volume

__all__ = [
    "SCAN_ENDINGS",
    "Frame",
    "Scan",
    "check_scan",
    "quality_notes",
    "read_mask",
    "read_scan",
    "read_volume",
    "scan_ending",
    "scan_name",
]

_VOLUME_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".npz")
SCAN_ENDINGS = (*_VOLUME_ENDINGS, ".dcm", ".zip")
_FORMATS = "NIfTI (.nii, .nii.gz), NRRD, MetaImage (.mha, .mhd), a folder or ZIP archive of DICOM files, or an NPZ case"


def read_volume(path: Path | str, *, series_uid: str | None = None) -> Volume:
    """A CT in HU, float32, on the grid and in the orientation of its file.

    path:       a file; a folder or ZIP archive with DICOM series; or one file of a DICOM series.
    series_uid: SeriesInstanceUID or series number, to choose one of several series; default: the best one.
    Raises InputError if the file cannot be read or does not hold a CT in HU.

    >>> import tempfile
    >>> from diffseglung.io.nifti import write_nifti
    >>> hu = np.full((12, 16, 16), -1000, np.int16)
    >>> hu[2:10, 4:12, 4:12] = 40
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_nifti(Path(folder) / "ct.nii.gz", Volume(hu, np.diag([2.5, 0.8, 0.8, 1.0])[[2, 1, 0, 3]]))
    ...     ct = read_volume(Path(folder) / "ct.nii.gz")
    >>> ct.shape, [round(mm, 2) for mm in ct.spacing_mm], ct.array.dtype.name
    ((12, 16, 16), [2.5, 0.8, 0.8], 'float32')
    """
    return read_scan(path, series_uid=series_uid).volume


def read_scan(path: Path | str, *, series_uid: str | None = None) -> Scan:
    """As `read_volume`, with notes on quality and on assumptions, and with its source."""
    path = Path(path)
    return check_scan(_read(path, series_uid), path)


def check_scan(scan: Scan, path: Path) -> Scan:
    """The scan as float32 HU with padding clamped, and with notes on quality.  Raises InputError if it is not a CT."""
    if scan.volume.array.dtype.kind not in "iuf":
        raise InputError(f"{path} does not hold values in HU", remedy="pass a CT, not a mask")
    volume = check_hu(scan.volume, path.name or str(path), scan.source.get(UNIT, "mm"))
    return replace(scan, volume=volume, notes=[*scan.notes, *quality_notes(scan.volume)])


def read_mask(path: Path | str) -> Volume:
    """A mask or label map of any format: whole numbers from 0, as uint8 if they fit, else int32.

    path: a file, an NPZ case, or a folder of lobe masks as TotalSegmentator writes it.
    Raises InputError if the file cannot be read or is not a mask.
    """
    path = Path(path)
    if path.is_dir():
        from diffseglung.io import mask_folder

        if mask_folder.is_mask_folder(path):
            return mask_folder.read_mask_folder(path)
    if scan_ending(path) == ".npz":
        from diffseglung.io import npz

        _require_exists(path)
        return npz.read_case(path).lungs
    volume = _read(path, None).volume
    array = volume.array
    if array.dtype.kind == "f":
        if not all(_is_whole(array[planes]) for planes in slabs(array)):
            raise InputError(
                f"{path} is not a mask: it holds fractional values",
                remedy="pass a binary mask or a label map, without interpolation",
            )
    elif array.dtype.kind not in "iub":
        raise InputError(f"{path} is not a mask: it holds {array.dtype} values", remedy="pass a label map of integers")
    ends = [(array[planes].min(), array[planes].max()) for planes in slabs(array)]
    low, high = int(min(e[0] for e in ends)), int(max(e[1] for e in ends))
    if low < 0 or high > 2**31 - 1:
        raise InputError(
            f"{path} is not a mask: its values run from {low} to {high}",
            remedy="pass a binary mask or a label map; pass the CT itself with -i",
        )
    return volume.with_array(converted(array, np.uint8 if high <= 255 else np.int32))


def _is_whole(values: Array) -> bool:
    return bool((np.isfinite(values) & (values == np.round(values))).all())


def scan_name(path: Path) -> str:
    """The name of a scan in records and pictures: its file's name, or that of the folder of its DICOM series."""
    place = path.parent if path.is_file() and scan_ending(path) in ("", ".dcm") else path
    return readable(place.name if place.name not in ("", "..") else place.resolve().name)


def scan_ending(path: Path) -> str:
    """The one of SCAN_ENDINGS in which the name ends, in upper or lower case; empty for another.

    >>> scan_ending(Path("CT.NII.GZ")), scan_ending(Path("notes.txt"))
    ('.nii.gz', '')
    """
    name = path.name.lower()
    return next((ending for ending in SCAN_ENDINGS if name.endswith(ending)), "")


def _require_exists(path: Path) -> None:
    if not path.exists():
        raise InputError(f"{path} does not exist", remedy=f"check the path; pass {_FORMATS}")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes)", remedy="copy or download the file again")


def _read(path: Path, series_uid: str | None) -> Scan:
    """Choose the reader by name and content; the library of a format is imported when needed."""
    _require_exists(path)
    ending = scan_ending(path)
    if path.is_dir() or ending in ("", ".dcm"):
        from diffseglung.io.dicom import headers, reader

        if path.is_dir() or ending or headers.is_dicom(path):
            return reader.read(path, series_uid=series_uid)
    if ending == ".zip":
        return _read_archive(path, series_uid)
    if series_uid is not None:
        raise InputError(f"{path} is not DICOM, so there are no series to choose from", remedy="omit the series")
    if ending in (".nii", ".nii.gz"):
        from diffseglung.io import nifti

        return nifti.read(path)
    if ending == ".npz":
        from diffseglung.io import npz

        return npz.read(path)
    if ending:
        from diffseglung.io import itk

        return itk.read(path)
    raise InputError(f"{path} has an unknown format", remedy=f"pass {_FORMATS}")


def _read_archive(path: Path, series_uid: str | None) -> Scan:
    """The CT series of a ZIP archive, without `frames`, since the unpacked files are removed."""
    from diffseglung.io import archives
    from diffseglung.io.dicom import reader

    with archives.unpacked(path) as folder:
        try:
            scan = reader.read(folder, series_uid=series_uid, name=str(path))
        except InputError as error:
            others = archives.other_scans(path, _VOLUME_ENDINGS)
            if "holds no DICOM files" not in error.problem or not others:
                raise
            raise InputError(
                f"{path} holds no DICOM files but {others[0]}", remedy="unpack it and pass that file"
            ) from error
    return replace(scan, frames=())
