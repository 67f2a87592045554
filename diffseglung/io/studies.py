"""Find the scans of a folder tree (NIfTI, NRRD and MetaImage files, DICOM series, archives) and name each of them."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from diffseglung.io import SCAN_ENDINGS, Scan, check_scan, read_scan, scan_ending
from diffseglung.io.identity import hash_of, names_patient
from diffseglung.io.plausibility import MIN_VOXELS
from diffseglung.io.tree import look_below
from diffseglung.platform.errors import InputError
from diffseglung.platform.serialization import readable

if TYPE_CHECKING:
    from diffseglung.io.dicom.headers import Slice

MASK_SUFFIXES = ("_mask", "_label", "_labels", "_seg")
"""Ends of names (before the file ending) of masks."""
MASK_NAMES = ("lungs", "truth", "label_map", "probabilities")
"""Files that this package writes beside or instead of a CT."""
HIDDEN = "***"
JOINT, LONGEST_NAME = "--", 120
"""Separator of the parts of a path in a scan's name; most bytes of a name, so that longer file names stay below 255."""
LUNG_SUFFIXES = ("_lung", "_lungs")
"""A file with this suffix is a mask if the name without it exists too, else a scan."""


@dataclass(frozen=True, eq=False)
class Study:
    """A scan that was found but not read.

    name: unique in its folder tree and usable as a file name (`study_name`).  path: the file, or folder of the series.
    mask: its lung mask, if any.  slices: the images of a DICOM series, else empty.
    series_uid: SeriesInstanceUID or number, if `path` is a folder of several series.
    damage: problem and remedy of a damaged file that may be a slice of the series.
    personal: names of folders and files that identify the patient; outputs do not repeat them.
    """

    name: str
    path: Path
    mask: Path | None = None
    slices: tuple[Slice, ...] = ()
    series_uid: str | None = None
    damage: tuple[str, str] | None = None
    personal: tuple[str, ...] = ()

    def told(self, text: str) -> str:
        """A path, or text with a path, without names that identify the patient."""
        for part in self.personal:
            text = text.replace(part, HIDDEN)
        return readable(text)

    def read(self) -> Scan:
        """The scan in HU, checked. Raises InputError as `read_scan`."""
        if self.damage is not None:
            raise InputError(self.damage[0], remedy=self.damage[1])
        if not self.slices:
            return read_scan(self.path, series_uid=self.series_uid)
        from diffseglung.io.dicom.stack import read_series

        return check_scan(read_series(self.slices, str(self.path)), self.path)


def find_studies(
    path: Path | str, *, mask_suffix: str | None = None, keep: bool = False, tell: Callable[[str], None] | None = None
) -> list[Study]:
    """Every scan at or below `path`, including linked folders, sorted by name.

    Skips DICOM series that are not axial, have fewer than 8 slices or are not a CT in HU (iodine maps, projections,
    lossy copies). A ZIP archive of DICOM files is one scan: the best of its series.
    mask_suffix: pairs `X.nii.gz` with the lung mask `X<suffix>.nii.gz` (any mask format) beside it.
    keep: name DICOM scans after their folders or archives even if those identify the patient; otherwise such a scan is
        called `scan-<first half of its series' hash>`; `diffseglung info --json` lists the hashes.
    tell: called with sentences on links and folders that were skipped.
    Raises InputError if `path` does not exist or no scan was found.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist", remedy="check the path")
    if path.is_file():
        return _named([((_brief(path),), Study("", path, _partner(path, mask_suffix)))], keep)
    tree = look_below(path)
    files = tree.files
    stems = {p.with_name(_stem(p)) for p in files}
    scans = [p for p in files if _may_be_scan(p) and not _is_mask(p, stems, mask_suffix)]
    found = [(_parts(p.with_name(_brief(p)), path), Study("", p, _partner(p, mask_suffix))) for p in scans]
    try:
        found += _series(path)
    except InputError as error:
        if not found:
            raise InputError(
                f"{path} holds no scans ({'; '.join([error.problem, *tree.sentences()])})",
                remedy="pass a folder of NIfTI, NRRD, MetaImage or DICOM CT files",
            ) from error
    if not found:
        raise InputError(f"{path} holds no complete CT series", remedy="pass the folder with all slices")
    if tell is not None:
        for sentence in tree.sentences():
            tell(sentence)
    return sorted(_named(found, keep), key=lambda study: study.name)


def _may_be_scan(path: Path) -> bool:
    """Whether a file is a scan by its name, or an archive with DICOM files."""
    ending = scan_ending(path)
    if ending == ".zip":
        from diffseglung.io import archives

        return archives.holds_dicom(path)
    return ending not in ("", ".dcm")


def _is_mask(path: Path, stems: set[Path], suffix: str | None) -> bool:
    stem = _stem(path)
    paired = [s for s in (*LUNG_SUFFIXES, suffix or "") if s and stem.endswith(s)]
    known = stem in MASK_NAMES or stem.endswith(MASK_SUFFIXES)
    return known or any(path.with_name(stem.removesuffix(s)) in stems for s in paired)


def _series(root: Path) -> list[tuple[tuple[str, ...], Study]]:
    """The usable DICOM CT series below `root`, with the parts of their names: folders and series number."""
    from diffseglung.io.dicom import reader

    images, damaged = reader.look(root)
    if not images:
        raise InputError("it holds no DICOM files", remedy="pass a folder of scans")
    found = []
    for series in reader.ct_series(images, str(root)):
        if series.count < MIN_VOXELS or not series.is_axial or series.foreign:
            continue
        folder = series.first.path.parent
        errors = (item.error for item in damaged if item.may_belong_to(series))
        damage = next(((error.problem, error.remedy) for error in errors), None)
        parts = (*_parts(folder, root), f"s{series.first.series_number or hash_of(series.first.series_uid)[:8]}")
        found.append((parts, Study("", folder, slices=series.slices, damage=damage)))
    return found


def _named(found: Iterable[tuple[tuple[str, ...], Study]], keep: bool) -> list[Study]:
    """Each study, named after its path; names that differ only in upper and lower case get a hash of the path."""
    rows = [(parts, named(study, parts, keep=keep)) for parts, study in found]
    shared = Counter(study.name.casefold() for _, study in rows)
    return [
        study if shared[study.name.casefold()] == 1 else replace(study, name=f"{study.name}-{_digest(parts, study)}")
        for parts, study in rows
    ]


def named(study: Study, parts: Sequence[str], *, keep: bool = False) -> Study:
    """The study, named after the parts of its path; unless `keep`, the name does not identify the patient."""
    study = replace(study, name=study_name(parts))
    if keep:
        return study
    try:
        identity = _identity(study)
    except InputError:  # damaged: reading it later reports that, and no identity is known
        return study
    files = [item.path for item in study.slices] or [study.path]
    places = {part for file in files for part in file.absolute().parts}
    personal = sorted((part for part in places if names_patient(part, identity)), key=len, reverse=True)
    if names_patient("/".join(parts), identity):
        study = replace(study, name=f"scan-{hash_of(identity.get('SeriesInstanceUID', study.name))[:8]}")
    return replace(study, personal=tuple(personal))


def _identity(study: Study) -> dict[str, str]:
    from diffseglung.io import archives
    from diffseglung.io.dicom import headers

    if study.slices:
        return headers.read_identity(study.slices[0].path)
    if study.path.is_dir():
        files = look_below(study.path).files
        return next((headers.read_identity(path) for path in files if headers.is_dicom(path)), {})
    return archives.read_identity(study.path) if scan_ending(study.path) == ".zip" else {}


def _parts(path: Path, root: Path) -> tuple[str, ...]:
    return path.relative_to(root).parts or (root.resolve().name,)


def _brief(path: Path) -> str:
    """The name of a file, without the ending .nii.gz; other endings stay, because names could clash without them."""
    return _stem(path) if scan_ending(path) == ".nii.gz" else path.name


def _stem(path: Path) -> str:
    return path.name[: len(path.name) - len(scan_ending(path))]


def study_name(parts: Sequence[str]) -> str:
    """A scan's name, which depends on the parts of its path only and is unique to them.

    The parts joined by two hyphens if they are short and need no cleaning; otherwise the cleaned parts and eight digits
    of a hash.

    >>> study_name(("study1", "patient7")), study_name(("my study", "ct"))
    ('study1--patient7', 'my-study--ct-49b198ea')
    """
    name = clean_name(JOINT.join(parts))
    exact = all(part == clean_name(part) and JOINT not in part for part in parts)
    if exact and len(name.encode()) <= LONGEST_NAME:
        return name
    short = clean_name(name.encode()[: LONGEST_NAME - 9].decode("utf-8", "ignore"))
    return f"{short}-{_digest(parts)}"


def _digest(parts: Sequence[str], study: Study | None = None) -> str:
    """Eight hexadecimal digits that identify a path and, if given, the series in it."""
    uid = study.slices[0].series_uid if study and study.slices else ""
    return hashlib.sha256(os.fsencode("/".join((*parts, uid)))).hexdigest()[:8]


def clean_name(name: str) -> str:
    """A name reduced to letters and digits of any script, dots, hyphens and single underscores.

    A double underscore is left to separate `<dataset>__<patient>`, and no character is special to a shell.

    >>> clean_name("CT chest (1)__b")
    'CT-chest-1-_b'
    """
    kept = "".join(
        c if unicodedata.category(c)[0] in "LMN" or c in "._-" else " " for c in unicodedata.normalize("NFC", name)
    )
    return re.sub(r"_{2,}", "_", re.sub(r" +", "-", kept)).strip("._-") or "scan"


def _partner(path: Path, suffix: str | None) -> Path | None:
    """The mask beside a scan: its name, the suffix, and any ending of a scan file."""
    if not suffix:
        return None
    names = [path.with_name(_stem(path) + suffix + ending) for ending in SCAN_ENDINGS if ending != ".zip"]
    return next((name for name in names if name.is_file()), None)
