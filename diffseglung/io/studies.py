"""The scans of a folder tree: NIfTI, NRRD and MetaImage files, DICOM series and archives, each under its own name."""

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
    from diffseglung.io.dicom.slices import Slice

MASK_SUFFIXES = ("_mask", "_label", "_labels", "_seg")
"""Files whose name (without its ending) ends so are masks, not scans."""
MASK_NAMES = ("lungs", "truth", "label_map", "probabilities")
"""What our own commands write beside a CT, or about it."""
HIDDEN = "***"
JOINT, LONGEST_NAME = "--", 120
"""Between the parts of a path in a scan's name; bytes of a name, so that what is written beside it fits 255."""
LUNG_SUFFIXES = ("_lung", "_lungs")
"""Files that end so are masks where the same name without it is there too; else scans of lungs."""


@dataclass(frozen=True, eq=False)
class Study:
    """One scan that was found, not yet read.

    name: unique in its folder tree, fit for a file name (`study_name`).  path: the file, or the folder of the series.
    mask: the lung mask that goes with it, if any.  slices: the files of a DICOM series, else empty.
    series_uid: SeriesInstanceUID or number, where `path` is a folder of several series.
    damage: problem and remedy of a damaged file that may be one of the slices of a DICOM series.
    personal: names of folders and files that tell who the patient is; outputs do not repeat them.
    """

    name: str
    path: Path
    mask: Path | None = None
    slices: tuple[Slice, ...] = ()
    series_uid: str | None = None
    damage: tuple[str, str] | None = None
    personal: tuple[str, ...] = ()

    def told(self, text: str) -> str:
        """A path, or a sentence that may hold one, without what names the patient."""
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
    """Every scan at or below `path`, linked folders included, in the order of their names.

    mask_suffix: pairs `X.nii.gz` with the lung mask `X<suffix>.nii.gz` (any mask format) beside it.
    DICOM series that are reformatted across the body axis, have fewer than 8 slices or are no CT in HU (iodine maps,
    projections, lossy copies) are passed over. A ZIP archive of DICOM files is one scan: the best of its series.
    keep: name DICOM scans after their folders or archives even where those name the patient; else such a scan is called
    `scan-<the first half of its series' hash>`, which `diffseglung info --json` tells of every series.
    tell: called with sentences on links and folders that were left out.
    Raises InputError when `path` does not exist or nothing was found.
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
    """A file that is a scan by its name; of archives those that hold DICOM files."""
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
    """The DICOM CT series below `root` that can be scans, with the parts of their names: folders, series number."""
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
    """Each study under the name that its path gives; where some differ in capitals alone, with a hash of the path."""
    rows = [(parts, named(study, parts, keep=keep)) for parts, study in found]
    shared = Counter(study.name.casefold() for _, study in rows)
    return [
        study if shared[study.name.casefold()] == 1 else replace(study, name=f"{study.name}-{_digest(parts, study)}")
        for parts, study in rows
    ]


def named(study: Study, parts: Sequence[str], *, keep: bool = False) -> Study:
    """The same study, called after the parts of its path; nothing of it tells who the patient is, unless `keep`."""
    study = replace(study, name=study_name(parts))
    if keep:
        return study
    try:
        identity = _identity(study)
    except InputError:  # damaged: it will be told when it is read, and nobody is known to be named
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
    """The name of a file without the usual ending; with another, since both may lie beside each other."""
    return _stem(path) if scan_ending(path) == ".nii.gz" else path.name


def _stem(path: Path) -> str:
    return path.name[: len(path.name) - len(scan_ending(path))]


def study_name(parts: Sequence[str]) -> str:
    """What a scan is called for the parts of its path: these alone decide it, and no other path gives the same.

    The parts with two hyphens between them, where they can be a name and are short; else what can be of them, and eight
    digits of a hash.
    """
    name = clean_name(JOINT.join(parts))
    exact = all(part == clean_name(part) and JOINT not in part for part in parts)
    if exact and len(name.encode()) <= LONGEST_NAME:
        return name
    short = clean_name(name.encode()[: LONGEST_NAME - 9].decode("utf-8", "ignore"))
    return f"{short}-{_digest(parts)}"


def _digest(parts: Sequence[str], study: Study | None = None) -> str:
    """Eight digits that stand for a path, and for the series where several lie in one folder."""
    uid = study.slices[0].series_uid if study and study.slices else ""
    return hashlib.sha256(os.fsencode("/".join((*parts, uid)))).hexdigest()[:8]


def clean_name(name: str) -> str:
    """Only letters and digits of any script, dot, hyphen and single underscores.

    So `<dataset>__<patient>` can be split again; no space, no sign that a shell or a file system takes for its own.
    """
    kept = "".join(
        c if unicodedata.category(c)[0] in "LMN" or c in "._-" else " " for c in unicodedata.normalize("NFC", name)
    )
    return re.sub(r"_{2,}", "_", re.sub(r" +", "-", kept)).strip("._-") or "scan"


def _partner(path: Path, suffix: str | None) -> Path | None:
    """The mask beside a scan: same name, then the suffix, then any ending of a scan file."""
    if not suffix:
        return None
    names = [path.with_name(_stem(path) + suffix + ending) for ending in SCAN_ENDINGS if ending != ".zip"]
    return next((name for name in names if name.is_file()), None)
