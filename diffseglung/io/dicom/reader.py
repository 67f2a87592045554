"""Find the DICOM CT series among other files; list them, or choose and read one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffseglung.io import archives
from diffseglung.io.dicom import choice
from diffseglung.io.dicom.headers import Slice, legible, read_headers
from diffseglung.io.dicom.series import Series, group
from diffseglung.io.dicom.stack import read_series
from diffseglung.io.scan import Scan
from diffseglung.io.tree import NOWHERE, Tree, look_below
from diffseglung.platform.errors import InputError


@dataclass(frozen=True, eq=False)
class Damaged:
    """A damaged file.  error: its defect.  modality, series_uid: from its header if readable, else empty."""

    path: Path
    error: InputError
    modality: str = ""
    series_uid: str = ""

    def may_belong_to(self, series: Series) -> bool:
        """Whether it may be a slice of a series, by its header, else by its name."""
        if self.modality not in ("", "CT"):
            return False
        if self.series_uid:
            return self.series_uid == series.first.series_uid
        beside = {item.path for item in series.slices if item.path.parent == self.path.parent}
        names = {_pattern(path) for path in beside}
        return _pattern(self.path) in names or len(names) > len(beside) / 2  # names without a pattern, such as hashes


def read(path: Path, *, series_uid: str | None = None, name: str = "") -> Scan:
    """The CT series of a folder and its subfolders, or the series to which one file belongs.

    A file named DICOMDIR stands for its folder.  Damaged files that do not belong to the series are skipped.
    series_uid: SeriesInstanceUID or series number; default: the best series (`choice`), with a note on the choice.
    name:       what to call the input in messages (default: the path).
    Raises InputError for anything but one complete CT series in HU.
    """
    name = name or str(path)
    images, damaged = look(path)
    damaged.sort(key=lambda item: item.path != path)
    try:
        candidates, lost = _without_lost(ct_series(_require_any(images, path, name), name))
    except InputError:
        if damaged:
            raise damaged[0].error from None
        raise
    damaged += lost
    for item in damaged:
        if item.path == path:
            raise item.error
    if path.is_file() and series_uid is None and path.name.upper() != "DICOMDIR":
        own = [s for s in candidates if any(item.path == path for item in s.slices)]
        if not own:
            raise InputError(f"{name} is not a CT slice", remedy="pass the folder of the axial CT series")
        return _read(own[0], damaged, name)
    if series_uid is not None:
        foreign = [series for series in group(images) if series.first.foreign]
        wanted = choice.find([*candidates, *foreign], series_uid, name)
        if wanted.first.foreign:
            raise InputError(
                f"series {series_uid} of {name} is {wanted.foreign}",
                remedy=f"choose one of: {choice.listing(candidates)}",
            )
        return _read(wanted, damaged, name)
    if len(candidates) == 1:
        return _read(candidates[0], damaged, name)
    best = choice.choose(candidates, name)
    scan = _read(best, damaged, name)
    scan.notes.insert(0, choice.reason(best, candidates))
    return scan


def _read(series: Series, damaged: list[Damaged], name: str) -> Scan:
    """Raises InputError if a damaged file may be a slice of the series: a missing end slice would go unnoticed."""
    for item in damaged:
        if item.may_belong_to(series):
            raise item.error
    scan = read_series(series.slices, name)
    if damaged:
        scan.notes.append(f"damaged files that do not belong to the series were skipped ({len(damaged)})")
    return scan


def find_images(path: Path, *, name: str = "") -> list[Slice]:
    """Every readable image and object of a folder and its subfolders, or of the folder of one file.

    Raises InputError if there is none.
    """
    return _require_any(look(path)[0], path, name or str(path))


def _require_any(images: list[Slice], path: Path, name: str) -> list[Slice]:
    if not images:
        what = f"{name} is not a readable DICOM file" if path.is_file() else f"{name} holds no DICOM files"
        raise InputError(what, remedy="pass the folder of a CT series, or a NIfTI, NRRD or MetaImage file")
    return images


def look(path: Path) -> tuple[list[Slice], list[Damaged]]:
    """The images of a folder and its subfolders, or of the folder of one file; and the damaged files.

    A file that is not DICOM counts as damaged if its name ends in .dcm or follows the pattern of images beside it.
    """
    tree = path.is_dir() or path.name.upper() == "DICOMDIR"
    folder = path if path.is_dir() else path.parent
    images: list[Slice] = []
    damaged: list[Damaged] = []
    none: list[Path] = []
    found_there = look_below(folder) if tree else Tree(folder, sorted(folder.glob("*")), [])
    for file in found_there.files:
        if not file.is_file() or file.name.upper() == "DICOMDIR" or file.name.startswith("."):
            continue
        try:
            found = read_headers(file)
        except InputError as error:
            damaged.append(Damaged(file, error, *legible(file)))
            continue
        known = [item for item in found if item.sop_class or item.modality or item.series_uid]
        images += known
        if not known:
            none.append(file)
    none += [file for file, why in found_there.left_out if why == NOWHERE]
    names = {(item.path.parent, _pattern(item.path)) for item in images}
    for file in none if images else ():
        if file.suffix.lower() == ".dcm" or (file.parent, _pattern(file)) in names:
            what = "is named like a slice but is not a DICOM file"
            if not file.exists() or file.stat().st_size == 0:
                what = "is empty (0 bytes)" if file.exists() else "is a link that leads nowhere"
            damaged.append(Damaged(file, InputError(f"{file.name} {what}", remedy="copy the complete series again")))
    return images, damaged


def _pattern(path: Path) -> str:
    """A file's name with # for each number."""
    return re.sub(r"\d+", "#", path.name)


def ct_series(images: list[Slice], name: str) -> list[Series]:
    """The CT series among images and other objects. Raises InputError if there is none."""
    every = group(images)
    found = [series for series in every if not series.first.foreign]
    if not found:
        kinds = sorted({series.first.foreign for series in every})
        if all(series.first.modality == "CT" for series in every):
            raise InputError(
                f"{name} holds only {', '.join(f'{kind}s' for kind in kinds)}, no CT slices",
                remedy="pass the folder of the axial series",
            )
        raise InputError(f"{name} holds no CT but {', '.join(kinds)}", remedy="pass a CT series of the chest")
    return found


def _without_lost(found: list[Series]) -> tuple[list[Series], list[Damaged]]:
    """Separate images without a SeriesInstanceUID, which are damage if there are other series beside them."""
    if len(found) == 1:
        return found, []
    lost = [item.path for series in found if not series.first.series_uid for item in series.slices]
    problem = "has no SeriesInstanceUID, so it is unknown to which series it belongs"
    remedy = "copy the series again, or pass the folder of one series"
    damaged = [Damaged(path, InputError(f"{path.name} {problem}", remedy=remedy), "CT") for path in lost]
    return [series for series in found if series.first.series_uid], damaged


def list_series(path: Path) -> list[dict[str, Any]]:
    """A row for each series at or below a folder or in a ZIP archive, sorted by number; no data of the patient.

    Keys: number, uid, hash (the pseudonym of the UID in outputs), modality, description, kernel, thickness_mm,
    spacing_mm, slices, axial, original, problem (why it cannot be used, or None) and chosen (whether it would be read
    by default).
    Raises InputError if there is no DICOM file.
    """
    if path.is_file() and path.suffix.lower() == ".zip":
        with archives.unpacked(path) as folder:
            return _rows(group(find_images(folder, name=str(path))), str(path))
    return _rows(group(find_images(path)), str(path))


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
