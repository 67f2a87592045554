"""What a folder, file or archive holds in DICOM series, as rows of plain values: nothing of the patient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffseglung.io import archives
from diffseglung.io.dicom import choice, reader
from diffseglung.io.dicom.series import Series, group
from diffseglung.platform.errors import InputError


def list_series(path: Path) -> list[dict[str, Any]]:
    """A row for each series at or below a folder or in a ZIP archive, in the order of their numbers.

    Keys: number, uid, hash (what stands for the UID in outputs), modality, description, kernel, thickness_mm,
    spacing_mm, slices, axial, original, problem (why it cannot be used, or None) and chosen (whether it would be read
    if none is named).
    Raises InputError where there is no DICOM file.
    """
    if path.is_file() and path.suffix.lower() == ".zip":
        with archives.unpacked(path) as folder:
            return _rows(group(reader.find_images(folder, name=str(path))), str(path))
    return _rows(group(reader.find_images(path)), str(path))


def _rows(every: list[Series], name: str) -> list[dict[str, Any]]:
    candidates = [series for series in every if not series.first.foreign]
    try:
        best = candidates[0] if len(candidates) == 1 else choice.choose(candidates, name) if candidates else None
    except InputError:
        best = None
    return [_row(series, series is best and series.defect is None) for series in every]


def _row(series: Series, chosen: bool) -> dict[str, Any]:
    first = series.first
    return {
        "number": first.series_number or None,
        "uid": first.series_uid or None,
        "hash": first.series_hash,
        "modality": first.modality or None,
        "description": first.description or None,
        "kernel": first.kernel or None,
        "thickness_mm": first.thickness_mm,
        "spacing_mm": series.spacing_mm,
        "slices": series.count,
        "axial": series.is_axial,
        "original": series.is_original,
        "problem": series.defect.problem.removeprefix("the series ") if series.defect else None,
        "chosen": chosen,
    }
