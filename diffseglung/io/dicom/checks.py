"""What the headers of a series must say for its voxels to be one CT in HU on one grid; each defect is one error.

Rescale types: DICOM PS3.3 C.11.1.1.2; image types of multi-energy CT: C.8.2.1.1.1 and C.8.15.2; photometric
interpretation: C.7.6.3.1.2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diffseglung.io.dicom.grid import Grid, fit, normal_of
from diffseglung.io.dicom.slices import ENHANCED_CT, Slice
from diffseglung.io.plausibility import MIN_VOXELS
from diffseglung.platform.errors import GeometryError, InputError

_NOT_HU = {
    "an iodine map": ("IODINE",),
    "a material map": ("MAT_SPECIFIC", "MAT_FRACTIONAL", "MAT_VALUE_BASED"),
    "an image whose materials were changed": ("MAT_REMOVED", "MAT_MODIFIED"),
    "a map of atomic numbers": ("EFF_ATOMIC_NUM", "EFFECTIVE_Z", "EFFECTIVEZ", "Z_EFF", "ZEFF"),
    "a map of electron density": ("ELECTRON_DENSITY", "ELECTRON DENSITY", "ELECTRONDENSITY"),
}
_PROJECTIONS = {"MIP", "MINIP", "MAX_IP", "MIN_IP", "MAXIP", "VOLUME_RENDER", "SURFACE_RENDER", "VRT", "CURVED_MPR"}
UNSPECIFIED = "US"
"""A RescaleType that leaves the unit open. GDCM and ITK write it into every CT; what looks like HU is taken as HU."""
_AGAIN = "export the series again from its source"
_ORIGINAL = "pass the original axial series of the same examination"


def check(slices: Sequence[Slice], name: str) -> Grid:
    """The grid of one series (its order does not matter), where nothing in its headers is against it."""
    require_ct(slices, name)
    _require_header(slices)
    _require_one_stack(slices, name)
    ordered = unique(in_order(slices))
    if len(ordered) < 2:
        raise InputError(
            f"{name} has only one slice position: a 2D image, not a scan", remedy="pass the folder with all slices"
        )
    first = ordered[0]
    return fit(
        np.array([s.position for s in ordered]), first.cosines, first.pixel_spacing, (first.rows, first.columns), name
    )


def require_long(count: int, name: str) -> None:
    """Raises InputError for fewer slices than hold a lung."""
    if count < MIN_VOXELS:
        raise InputError(
            f"{name} has only {count} slice{'s' * (count != 1)}",
            remedy=f"pass the whole scan; at least {MIN_VOXELS} voxels along every axis are needed",
        )


def in_order(slices: Sequence[Slice]) -> list[Slice]:
    """Along the normal of the first, then by file and frame."""
    normal = normal_of(slices[0].cosines, slices[0].path.name)
    return sorted(slices, key=lambda s: (round(float(s.position @ normal), 6), str(s.path), s.frame or 0))


def unique(ordered: Sequence[Slice]) -> list[Slice]:
    """The first of those at one position."""
    kept: list[Slice] = []
    for item in ordered:
        if not kept or not same_place(item, kept[-1]):
            kept.append(item)
    return kept


def same_place(one: Slice, other: Slice) -> bool:
    """Whether the first pixels of both lie within a micrometre."""
    return bool(np.linalg.norm(one.position - other.position) < 1e-3)


def require_ct(slices: Sequence[Slice], name: str) -> None:
    """The values are HU, without loss. Raises InputError for projections, maps, other units and lossy compression."""
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
                f"{where} was compressed with loss: fine texture of the lung is gone from it",
                remedy="export the series again without compression, or with a lossless one",
            )
        if item.photometric not in ("", "MONOCHROME2"):
            raise InputError(
                f"{where} is stored as {item.photometric}, not MONOCHROME2: its values may be inverted",
                remedy="export the series as a CT in HU (MONOCHROME2)",
            )


def _require_header(slices: Sequence[Slice]) -> None:
    """Every image has the attributes without which it has no place and no scale."""
    scaled = {(s.slope is None, s.intercept is None) for s in slices}
    for item in slices:
        where = item.path.name
        if item.frames > 1 and item.sop_class not in ENHANCED_CT:
            raise InputError(
                f"{where} is a multi-frame file of another kind than enhanced CT: its slices have no places",
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
                f"{where} has no RescaleSlope and RescaleIntercept, others of its series have", remedy=_AGAIN
            )


def _require_one_stack(slices: Sequence[Slice], name: str) -> None:
    """All images show one patient, one frame of reference, one time, one matrix, one spacing and one orientation."""
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
    """No two places share one SOPInstanceUID (and frame)."""
    known: dict[tuple[str, int | None], Slice] = {}
    for item in slices:
        other = known.setdefault((item.sop_uid, item.frame), item)
        if item.sop_uid and not same_place(item, other):
            raise InputError(
                f"{other.path.name} and {item.path.name} are different images with one SOPInstanceUID",
                remedy="copy the series again from its source; its files were mixed up or badly de-identified",
            )
