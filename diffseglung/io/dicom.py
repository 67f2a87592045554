"""DICOM CT series: found among other files, grouped, and one of them chosen."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pydicom
from pydicom.errors import InvalidDicomError

from diffseglung.errors import InputError
from diffseglung.io.dicom_stack import Slice, normal_of, read_series
from diffseglung.io.scan import Scan

_TAGS = [
    "SOPClassUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "Modality", "ImageType", "PatientID",
    "FrameOfReferenceUID", "Rows", "Columns", "SamplesPerPixel", "NumberOfFrames", "PixelSpacing",
    "ImagePositionPatient", "ImageOrientationPatient", "SliceThickness", "ConvolutionKernel", "Manufacturer",
    "ManufacturerModelName", "ContrastBolusAgent", "KVP",
]  # fmt: skip
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def read(path: Path, *, series_uid: str | None = None) -> Scan:
    """The CT series of a folder (searched with its subfolders), or the series to which one file belongs.

    series_uid: SeriesInstanceUID or series number; needed where several series are about equally long.
    Raises InputError for anything but one complete CT series on a regular grid.
    """
    slices = find_slices(path)
    if path.is_file() and series_uid is None:
        own = [s for s in slices if s.path == path]
        if not own:
            raise InputError(f"{path} is no CT slice", remedy="pass the folder of the axial CT series")
        series_uid = str(own[0].header.get("SeriesInstanceUID", ""))
    series = group_series(slices)
    chosen = _choose(path, series, series_uid)
    return read_series(chosen, str(path))


def find_slices(path: Path) -> list[Slice]:
    """Every CT image of a folder; localisers, reports, screenshots and other objects are left out.

    Raises InputError when there is no CT image.
    """
    folder = path if path.is_dir() else path.parent
    files = sorted(p for p in (folder.rglob("*") if path.is_dir() else folder.glob("*")) if p.is_file())
    headers = [(file, header) for file in files if (header := _header(file)) is not None]
    if not headers:
        what = f"{path} is not a readable DICOM file" if path.is_file() else f"{path} holds no DICOM files"
        raise InputError(what, remedy="pass the folder of a CT series, or a NIfTI, NRRD or MetaImage file")
    slices = [Slice(file, header) for file, header in headers if _is_ct_slice(header)]
    if not slices:
        modalities = sorted({str(header.get("Modality", "unknown")) for _, header in headers})
        if modalities == ["CT"]:
            raise InputError(
                f"{path} holds only localisers or images without a position, no CT slices",
                remedy="pass the folder of the axial series",
            )
        raise InputError(f"{path} holds no CT but {', '.join(modalities)}", remedy="pass a CT series of the chest")
    return slices


def group_series(slices: Sequence[Slice]) -> dict[str, list[Slice]]:
    """Slices by SeriesInstanceUID."""
    series: dict[str, list[Slice]] = defaultdict(list)
    for item in slices:
        series[str(item.header.get("SeriesInstanceUID", ""))].append(item)
    return dict(series)


def is_axial(series: Sequence[Slice]) -> bool:
    """Whether the slices lie across the body, tilted by less than 37 degrees (multi-frame files are taken to)."""
    return series[0].is_multiframe or bool(abs(normal_of(series[0])[2]) > 0.8)


def _header(path: Path) -> Any | None:
    """The needed tags of a DICOM image, or None for another file."""
    if path.name.upper() == "DICOMDIR" or path.name.startswith("."):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
    except (InvalidDicomError, OSError, EOFError, ValueError, KeyError, AttributeError, NotImplementedError):
        return None


def _is_ct_slice(header: Any) -> bool:
    kind = [str(word).upper() for word in (header.get("ImageType") or [])]
    return (
        str(header.get("Modality", "")) == "CT"
        and not str(header.get("SOPClassUID", "")).startswith(_SECONDARY_CAPTURE)
        and "LOCALIZER" not in kind
        and "Rows" in header
        and int(header.get("SamplesPerPixel") or 1) == 1
        and (_has_plane(header) or "NumberOfFrames" in header)
    )


def _has_plane(header: Any) -> bool:
    return len(header.get("ImagePositionPatient") or []) == 3 and len(header.get("ImageOrientationPatient") or []) == 6


def _choose(path: Path, series: dict[str, list[Slice]], wish: str | None) -> list[Slice]:
    """The series asked for; else the only one; else the one at least twice as long as any other, axial ones first."""
    if wish is not None:
        found = [s for uid, s in series.items() if wish in (uid, str(s[0].header.get("SeriesNumber", "")))]
        if len(found) == 1:
            return found[0]
        problem = "has no series" if not found else "has several series"
        raise InputError(f"{path} {problem} {wish}", remedy=f"choose one of: {_listing(series)}")
    axial = [s for s in series.values() if is_axial(s)] or list(series.values())
    ranked = sorted(axial, key=len, reverse=True)
    if len(ranked) > 1 and len(ranked[0]) < 2 * len(ranked[1]):
        raise InputError(
            f"{path} holds {len(series)} CT series: {_listing(series)}",
            remedy="choose one with --series NUMBER (or its UID), or pass the folder of one series",
        )
    return ranked[0]


def _listing(series: dict[str, list[Slice]]) -> str:
    rows = []
    for uid, slices in series.items():
        header = slices[0].header
        number, text = header.get("SeriesNumber"), str(header.get("SeriesDescription", "") or "no description")
        rows.append(f"{number if number is not None else uid} ({text}, {len(slices)} slices)")
    return "; ".join(sorted(rows)[:8]) + ("; ..." if len(rows) > 8 else "")
