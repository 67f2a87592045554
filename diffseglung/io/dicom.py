"""DICOM CT series: found among other files, grouped, and one of them chosen."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from diffseglung.errors import InputError
from diffseglung.io.dicom_slice import Slice, read_header
from diffseglung.io.dicom_stack import normal_of, read_series
from diffseglung.io.scan import Scan


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
        series_uid = own[0].series_uid
    series = group_series(slices)
    chosen = _choose(path, series, series_uid)
    scan = read_series(chosen, str(path))
    if series_uid is None and len(series) > 1:
        scan.notes.append(f"the longest of {len(series)} CT series in the folder was taken ({_title(chosen)})")
    return scan


def find_slices(path: Path, *, strict: bool = True) -> list[Slice]:
    """Every CT image of a folder; localisers, reports, screenshots and other objects are left out.

    strict: a damaged DICOM file is an InputError, else it is left out too.
    Raises InputError when there is no CT image.
    """
    files = path.rglob("*") if path.is_dir() else path.parent.glob("*")
    headers = []
    for file in sorted(files):
        try:
            header = read_header(file) if _may_be_dicom(file) else None
        except InputError:
            if strict:
                raise
            continue
        if header is not None:
            headers.append(header)
    if not headers:
        what = f"{path} is not a readable DICOM file" if path.is_file() else f"{path} holds no DICOM files"
        raise InputError(what, remedy="pass the folder of a CT series, or a NIfTI, NRRD or MetaImage file")
    slices = [header for header in headers if header.is_ct_slice]
    if not slices:
        modalities = sorted({header.modality or "unknown" for header in headers})
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
        series[item.series_uid].append(item)
    return dict(series)


def is_axial(series: Sequence[Slice]) -> bool:
    """Whether the slices lie across the body, tilted by less than 37 degrees (multi-frame files are taken to)."""
    return series[0].frames > 1 or bool(abs(normal_of(series[0])[2]) > 0.8)


def _may_be_dicom(path: Path) -> bool:
    return path.is_file() and path.name.upper() != "DICOMDIR" and not path.name.startswith(".")


def _choose(path: Path, series: dict[str, list[Slice]], wish: str | None) -> list[Slice]:
    """The series asked for; else the only one; else the one at least twice as long as any other, axial ones first."""
    if wish is not None:
        found = [s for uid, s in series.items() if wish in (uid, s[0].series_number)]
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
    rows = sorted(_title(slices) for slices in series.values())
    return "; ".join(rows[:8]) + ("; ..." if len(rows) > 8 else "")


def _title(slices: Sequence[Slice]) -> str:
    first = slices[0]
    return f"{first.series_number or first.series_uid} ({first.description or 'no description'}, {len(slices)} slices)"
