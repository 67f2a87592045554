"""`Series`: the images of one DICOM series, its properties, and its defects.

`check` requires headers that describe one CT in HU on one grid; each defect is a specific error. Rescale types: DICOM
PS3.3 C.11.1.1.2; image types of multi-energy CT: C.8.2.1.1.1 and C.8.15.2; photometric interpretation: C.7.6.3.1.2.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from diffseglung.io.dicom.grid import Grid, fit, normal_of
from diffseglung.io.dicom.headers import ENHANCED_CT, Slice
from diffseglung.io.plausibility import MIN_VOXELS
from diffseglung.platform.errors import GeometryError, InputError

THIN_MM = 2.5
"""Largest slice thickness and spacing that show fine texture of the lung."""
_AXIAL_COSINE = 0.8
"""Slices tilted by less than 37 degrees are axial."""
_SHARP = re.compile(
    r"^(B[6-9]\d[a-z]?|[BQH][rlvf]?[6-9]\d[a-z]?|Bl5\d[a-z]?|U[6-9]\d[a-z]?|LUNG|BONE|BONEPLUS|EDGE|DETAIL|ULTRA|L|D"
    r"|Y[A-E]|FC30|FC5\d|FC8\d)$",
    re.IGNORECASE,
)
"""Convolution kernels that vendors recommend for lung or bone display: Siemens, GE, Philips, Canon."""
_NAME = "the series"


@dataclass(frozen=True, eq=False)
class Series:
    """All images with one SeriesInstanceUID that are of one kind: CT slices, or something else."""

    slices: tuple[Slice, ...]

    @property
    def first(self) -> Slice:
        """The first image, for values that all images share."""
        return self.slices[0]

    @property
    def label(self) -> str:
        """The series number, else the UID."""
        uid = self.first.series_uid
        return self.first.series_number or (uid if re.fullmatch(r"[0-9.]{1,64}", uid) else "without a number")

    @property
    def title(self) -> str:
        """Number, description and slices, for messages."""
        return f"{self.label} ({self.first.description or 'no description'}, {self.count} slices)"

    @cached_property
    def _ordered(self) -> tuple[Slice, ...]:
        """The slices sorted and without duplicates; empty if positions are missing."""
        try:
            return tuple(unique(in_order(self.slices)))
        except (InputError, ValueError):
            return ()

    @property
    def count(self) -> int:
        """Number of slice positions; of images, if positions are missing."""
        return len(self._ordered) or len(self.slices)

    @cached_property
    def spacing_mm(self) -> float | None:
        """Median distance between slices."""
        if len(self._ordered) < 2:
            return None
        normal = normal_of(self._ordered[0].cosines, "")
        return round(float(np.median(np.diff([s.position @ normal for s in self._ordered]))), 4)

    @property
    def coverage_mm(self) -> float:
        """Length along the slice normal."""
        return self.count * (self.spacing_mm or 0.0)

    @property
    def is_axial(self) -> bool:
        """Whether the slices are transverse to the body."""
        try:
            return bool(abs(normal_of(self.first.cosines, "")[2]) > _AXIAL_COSINE)
        except (InputError, ValueError):
            return False

    @property
    def is_original(self) -> bool:
        """Whether it was reconstructed from measured data (ImageType ORIGINAL, PRIMARY; or not stated)."""
        kind = [word for word in self.first.image_type if word]
        return kind[:2] == ["ORIGINAL", "PRIMARY"] or not kind

    @property
    def is_thin(self) -> bool:
        """Whether slice thickness and spacing are at most THIN_MM."""
        return max(self.first.thickness_mm or 0.0, self.spacing_mm or np.inf) <= THIN_MM

    @property
    def is_sharp(self) -> bool:
        """Whether the convolution kernel is one for lung or bone display."""
        return is_sharp(self.first.kernel)

    @cached_property
    def foreign(self) -> str:
        """The kind of series that this is instead of a CT in HU; empty for a CT."""
        if self.first.foreign:
            return f"not a CT but {self.first.foreign}"
        try:
            require_ct(self.slices, _NAME)
        except InputError as error:
            return error.problem
        return ""

    @cached_property
    def defect(self) -> InputError | None:
        """Why it cannot be read, judged by its headers; None if it can."""
        if self.first.foreign:
            return InputError(f"{_NAME} is {self.foreign}", remedy="pass a CT series of the chest")
        try:
            check(self.slices, _NAME)
            require_long(self.count, _NAME)
        except InputError as error:
            return error
        return None


def is_sharp(kernel: str) -> bool:
    """Whether a convolution kernel is for lung or bone display; a strength after a slash is ignored.

    >>> is_sharp("Br64d/3"), is_sharp("STANDARD")
    (True, False)
    """
    return bool(_SHARP.match(kernel.split("/")[0].strip()))


def group(images: Iterable[Slice]) -> list[Series]:
    """Images grouped by series and kind, sorted by series number."""
    found: dict[tuple[str, str], list[Slice]] = defaultdict(list)
    for item in images:
        found[item.series_uid, item.foreign].append(item)
    return sorted((Series(tuple(slices)) for slices in found.values()), key=_order)


def _order(series: Series) -> tuple[int, str, str]:
    number = series.first.series_number
    return int(number) if number.isdecimal() else 10**9, number, series.first.series_uid


_NOT_HU = {
    "an iodine map": ("IODINE",),
    "a material map": ("MAT_SPECIFIC", "MAT_FRACTIONAL", "MAT_VALUE_BASED"),
    "an image whose materials were changed": ("MAT_REMOVED", "MAT_MODIFIED"),
    "a map of atomic numbers": ("EFF_ATOMIC_NUM", "EFFECTIVE_Z", "EFFECTIVEZ", "Z_EFF", "ZEFF"),
    "a map of electron density": ("ELECTRON_DENSITY", "ELECTRON DENSITY", "ELECTRONDENSITY"),
}
_PROJECTIONS = {"MIP", "MINIP", "MAX_IP", "MIN_IP", "MAXIP", "VOLUME_RENDER", "SURFACE_RENDER", "VRT", "CURVED_MPR"}
UNSPECIFIED = "US"
"""Unspecified RescaleType, which GDCM and ITK write into every CT: values that look like HU are taken as HU."""
_AGAIN = "export the series again from its source"
_ORIGINAL = "pass the original axial series of the same examination"


def check(slices: Sequence[Slice], name: str) -> Grid:
    """The grid of the slices of one series, in any order.  Raises InputError for every defect of the headers."""
    require_ct(slices, name)
    _require_header(slices)
    _require_one_stack(slices, name)
    ordered = unique(in_order(slices))
    if len(ordered) < 2:
        raise InputError(
            f"{name} has only one slice position: it is a 2D image, not a scan",
            remedy="pass the folder with all slices",
        )
    first = ordered[0]
    return fit(
        np.array([s.position for s in ordered]), first.cosines, first.pixel_spacing, (first.rows, first.columns), name
    )


def require_long(count: int, name: str) -> None:
    """Raises InputError for fewer than MIN_VOXELS slices."""
    if count < MIN_VOXELS:
        raise InputError(
            f"{name} has only {count} slice{'s' * (count != 1)}",
            remedy=f"pass the whole scan; at least {MIN_VOXELS} voxels along every axis are needed",
        )


def in_order(slices: Sequence[Slice]) -> list[Slice]:
    """Slices sorted along the normal of the first, then by file and frame."""
    normal = normal_of(slices[0].cosines, slices[0].path.name)
    return sorted(slices, key=lambda s: (round(float(s.position @ normal), 6), str(s.path), s.frame or 0))


def unique(ordered: Sequence[Slice]) -> list[Slice]:
    """The first slice at each position of sorted slices."""
    kept: list[Slice] = []
    for item in ordered:
        if not kept or not same_place(item, kept[-1]):
            kept.append(item)
    return kept


def same_place(one: Slice, other: Slice) -> bool:
    """Whether the positions of two slices are within a micrometre."""
    return bool(np.linalg.norm(one.position - other.position) < 1e-3)


def require_ct(slices: Sequence[Slice], name: str) -> None:
    """Raises InputError unless values are HU: for projections, maps, other units and lossy compression."""
    one_file = len({item.path for item in slices}) == 1
    for item in slices:
        where = name if one_file else item.path.name
        words = {word for entry in (*item.image_type, item.technique) for word in (entry, *entry.split())}
        for what, signs in _NOT_HU.items():
            if any(sign in entry for entry in item.image_type for sign in signs):
                raise InputError(f"{where} is {what} (ImageType), not a CT in HU", remedy=_ORIGINAL)
        if words & _PROJECTIONS:
            raise InputError(
                f"{where} is a projection or rendering ({', '.join(sorted(words & _PROJECTIONS))}), not slices of a CT",
                remedy=_ORIGINAL,
            )
        if item.rescale_type not in ("", "HU", UNSPECIFIED):
            raise InputError(f"{where} is not in HU: its RescaleType is {item.rescale_type}", remedy=_ORIGINAL)
        if item.lookup and item.intercept is None:
            raise InputError(f"{where} maps its values through a table (ModalityLUTSequence), not to HU", remedy=_AGAIN)
        if item.lossy:
            raise InputError(
                f"{where} was compressed with loss: it has lost the fine texture of the lung",
                remedy="export the series again, uncompressed or with lossless compression",
            )
        if item.photometric not in ("", "MONOCHROME2"):
            raise InputError(
                f"{where} is stored as {item.photometric}, not MONOCHROME2: its values may be inverted",
                remedy="export the series as a CT in HU (MONOCHROME2)",
            )


def _require_header(slices: Sequence[Slice]) -> None:
    """Raises InputError for images without a valid position, orientation, size, spacing or scale."""
    scaled = {(s.slope is None, s.intercept is None) for s in slices}
    for item in slices:
        where = item.path.name
        if item.frames > 1 and item.sop_class not in ENHANCED_CT:
            raise InputError(
                f"{where} is a multi-frame file but not an enhanced CT: its slices have no positions",
                remedy="convert it to NIfTI with `dcm2niix`, or export it as a classic CT series",
            )
        if item.position.size != 3 or not np.isfinite(item.position).all():
            raise GeometryError(f"{where} has no valid ImagePositionPatient", remedy=_AGAIN)
        if item.cosines.size != 6:
            raise GeometryError(f"{where} has no valid ImageOrientationPatient", remedy=_AGAIN)
        spacing = item.pixel_spacing
        if len(spacing) != 2 or not all(np.isfinite(v) and v > 0 for v in spacing):
            raise GeometryError(f"{where} has no valid PixelSpacing", remedy=_AGAIN)
        if item.rows < 1 or item.columns < 1:
            raise GeometryError(f"{where} has no matrix size (Rows, Columns)", remedy=_AGAIN)
        scale = (1.0 if item.slope is None else item.slope, item.intercept or 0.0)
        if not np.isfinite(scale).all() or scale[0] == 0:
            raise InputError(f"{where} has an impossible RescaleSlope or RescaleIntercept", remedy=_AGAIN)
        if len(scaled) > 1 and (item.slope is None or item.intercept is None):
            raise InputError(
                f"{where} has no RescaleSlope and RescaleIntercept, but others of its series do", remedy=_AGAIN
            )


def _require_one_stack(slices: Sequence[Slice], name: str) -> None:
    """Raises InputError for several patients, frames of reference, times, matrices, spacings or orientations."""
    first = slices[0]
    mixed = {
        "patients": {s.patient_id for s in slices},
        "frames of reference": {s.frame_of_reference for s in slices},
    }
    for what, found in mixed.items():
        if len(found) > 1:
            raise InputError(
                f"{name} mixes {what} in one series", remedy="separate the studies and pass the folder of one series"
            )
    for what, found in {"time points": {s.temporal for s in slices}, "stacks": {s.stack for s in slices}}.items():
        if len(found) > 1:
            raise InputError(
                f"{name} holds {len(found)} {what} in one series", remedy="export one of them as a series of its own"
            )
    for item in slices:
        same = {
            "matrix size": (item.rows, item.columns) == (first.rows, first.columns),
            "PixelSpacing": np.allclose(item.pixel_spacing, first.pixel_spacing, atol=1e-3, rtol=0),
            "ImageOrientationPatient": np.allclose(item.cosines, first.cosines, atol=1e-3, rtol=0),
        }
        for what, agrees in same.items():
            if not agrees:
                raise GeometryError(
                    f"{name} is a mixed series: {what} differs between {first.path.name} and {item.path.name}",
                    remedy="separate the stacks into folders and pass one of them",
                )
    _require_own_uids(slices)


def _require_own_uids(slices: Sequence[Slice]) -> None:
    """Raises InputError if two positions share a SOPInstanceUID (and frame)."""
    known: dict[tuple[str, int | None], Slice] = {}
    for item in slices:
        other = known.setdefault((item.sop_uid, item.frame), item)
        if item.sop_uid and not same_place(item, other):
            raise InputError(
                f"{other.path.name} and {item.path.name} are different images with one SOPInstanceUID",
                remedy="copy the series again from its source; its files were mixed up or badly de-identified",
            )
