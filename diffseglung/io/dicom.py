"""DICOM CT series: found among other files, listed, and one of them chosen."""

from __future__ import annotations

from pathlib import Path

from diffseglung.errors import InputError
from diffseglung.io import dicom_choice
from diffseglung.io.dicom_headers import read_headers
from diffseglung.io.dicom_series import Series, group
from diffseglung.io.dicom_slice import Slice
from diffseglung.io.dicom_stack import read_series
from diffseglung.io.scan import Scan
from diffseglung.io.tree import NOWHERE, Tree, look_below


def read(path: Path, *, series_uid: str | None = None, name: str = "") -> Scan:
    """The CT series of a folder (searched with its subfolders), or the series to which one file belongs.

    A file called DICOMDIR stands for its folder.
    series_uid: SeriesInstanceUID or series number; else the best is chosen (`dicom_choice`), and a note tells.
    name:       what to call it in messages (default: the path).
    Raises InputError for anything but one complete CT series in HU.
    """
    name = name or str(path)
    images = find_images(path, name=name)
    candidates = ct_series(images, name)
    _require_uids(candidates)
    if path.is_file() and series_uid is None and path.name.upper() != "DICOMDIR":
        own = [s for s in candidates if any(item.path == path for item in s.slices)]
        if not own:
            raise InputError(f"{name} is no CT slice", remedy="pass the folder of the axial CT series")
        return read_series(own[0].slices, name)
    if series_uid is not None:
        wanted = dicom_choice.find(group(images), series_uid, name)
        if wanted.first.foreign:
            raise InputError(
                f"series {series_uid} of {name} is {wanted.foreign}",
                remedy=f"choose one of: {dicom_choice.listing(candidates)}",
            )
        return read_series(wanted.slices, name)
    if len(candidates) == 1:
        return read_series(candidates[0].slices, name)
    best = dicom_choice.choose(candidates, name)
    scan = read_series(best.slices, name)
    scan.notes.insert(0, dicom_choice.reason(best, candidates))
    return scan


def find_images(path: Path, *, strict: bool = True, name: str = "") -> list[Slice]:
    """Every image and object of a folder and its subfolders, or of the folder of one file.

    strict: a damaged DICOM file is an InputError, else it is left out.
    Raises InputError where there is none.
    """
    images, damaged = look(path)
    if damaged and strict:
        raise damaged[0][1]
    if not images:
        name = name or str(path)
        what = f"{name} is not a readable DICOM file" if path.is_file() else f"{name} holds no DICOM files"
        raise InputError(what, remedy="pass the folder of a CT series, or a NIfTI, NRRD or MetaImage file")
    return images


def look(path: Path) -> tuple[list[Slice], list[tuple[Path, InputError]]]:
    """Images of a folder and its subfolders, or of the folder of one file; and the damaged files, with what is wrong.

    Where there is no image at all, files that are called .dcm and are none do not count as damaged.
    """
    tree = path.is_dir() or path.name.upper() == "DICOMDIR"
    folder = path if path.is_dir() else path.parent
    images: list[Slice] = []
    damaged: list[tuple[Path, InputError]] = []
    none: list[Path] = []
    found_there = look_below(folder) if tree else Tree(folder, sorted(folder.glob("*")), [])
    for file in found_there.files:
        if not _may_be_dicom(file):
            continue
        try:
            found = read_headers(file)
        except InputError as error:
            damaged.append((file, error))
            continue
        images += found
        if not found and file.suffix.lower() == ".dcm":
            none.append(file)
    none += [file for file, why in found_there.left_out if why == NOWHERE and file.suffix.lower() == ".dcm"]
    for file in none if images else ():
        what = "is named .dcm but is no DICOM file"
        if not file.exists() or file.stat().st_size == 0:
            what = "is empty (0 bytes)" if file.exists() else "is a link that leads nowhere"
        damaged.append((file, InputError(f"{file.name} {what}", remedy="copy the series again, completely")))
    return images, damaged


def ct_series(images: list[Slice], name: str) -> list[Series]:
    """The CT series among images and other objects. Raises InputError where there is none."""
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


def _require_uids(found: list[Series]) -> None:
    """Images that do not tell their series may stand alone, but not beside a series that they may belong to."""
    lost = next((series for series in found if not series.first.series_uid), None)
    if lost is not None and len(found) > 1:
        raise InputError(
            f"{lost.first.path.name} has no SeriesInstanceUID, so it is unknown to which series it belongs",
            remedy="copy the series again, or pass the folder of one series",
        )


def _may_be_dicom(path: Path) -> bool:
    return path.is_file() and path.name.upper() != "DICOMDIR" and not path.name.startswith(".")
