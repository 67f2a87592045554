"""`Scan`: a volume and the information of its file. What all readers share: axes, units of length, causes of damage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffseglung.platform.errors import GeometryError, InputError
from diffseglung.volume import Array, Volume

UNIT = "length_unit"
"""Key of `Scan.source`: the unit of length of a header that is not in millimetres."""
MM_PER = {
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1.0),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 10.0),
    **dict.fromkeys(("m", "meter", "metre"), 1000.0),
    **dict.fromkeys(("um", "micron", "micrometer", "micrometre"), 1e-3),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1e-6),
    **dict.fromkeys(("in", "inch", "inche"), 25.4),
}
"""Singular names; either letter mu is written u."""
_UNSTATED = ("", "?", "???", "none", "unknown")


@dataclass(frozen=True)
class Frame:
    """The place of one slice of a DICOM scan: its file, and its frame number (from 1) if the file has several."""

    path: Path
    number: int | None = None


@dataclass(frozen=True, eq=False)
class Scan:
    """What a reader returns.

    volume:   values after the file's own rescaling (not yet checked to be HU).
    notes:    sentences for the user: what was assumed, what limits the result.
    source:   plain JSON values: the format, and acquisition parameters from the header. Never names, dates or ids of a
              patient; a DICOM series is identified by a hash of its UID.
    frames:   one entry for each slice of a DICOM scan, in order along the volume's Z axis. Empty for other formats, for
              a resampled grid, and for files that no longer exist (unpacked from an archive).
    identity: the identity of the patient of a DICOM scan (`io.identity`); written only on request.
    """

    volume: Volume
    notes: list[str] = field(default_factory=list)
    source: dict[str, Any] = field(default_factory=dict)
    frames: tuple[Frame, ...] = ()
    identity: dict[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls, path: Path, array: Array, affine: NDArray[np.float64], notes: list[str], source: dict[str, Any]
    ) -> Scan:
        """A scan of the voxels of a file.  Raises GeometryError, which names the file, for an unusable affine."""
        try:
            return cls(Volume(array, affine), notes, source)
        except GeometryError as error:
            raise GeometryError(f"{path}: {error.problem}", remedy=error.remedy) from error


def require_3d(path: Path, shape: Sequence[int]) -> None:
    """Raises InputError unless a file of this shape (x, y, z, ...) holds one 3D volume."""
    shape = tuple(shape)
    if len(shape) >= 3 and 0 in shape:
        raise InputError(f"{path} has no voxels (shape {shape})", remedy="export the scan again from its source")
    if len(shape) < 3 or shape[2] == 1:
        raise InputError(f"{path} is a 2D image (shape {shape})", remedy="pass the whole scan, with all its slices")
    if any(n != 1 for n in shape[3:]):
        raise InputError(
            f"{path} has {int(np.prod(shape[3:]))} volumes (shape {shape})",
            remedy="write one time point or channel as a 3D file",
        )


def reason(cause: BaseException) -> str:
    """The first line of an error's message, or its type if it has none: at most 120 characters.

    >>> reason(ValueError("no header\\nat byte 0")), reason(EOFError())
    ('no header', 'EOFError')
    """
    return next(iter(str(cause).splitlines()), type(cause).__name__)[:120]


def in_mm(units: Sequence[str]) -> tuple[NDArray[np.float64], dict[str, str], list[str]]:
    """The factors that convert a header's lengths along x, y and z to millimetres.

    units: as the header states them, one for each axis or one for all. Unstated and unknown units count as
    millimetres; unknown ones are noted.  Returns the factors (3,), entries for `Scan.source`, and notes.

    >>> in_mm(["cm"])
    (array([10., 10., 10.]), {'length_unit': 'cm'}, ["the header gives lengths in 'cm'; they were converted to mm"])
    """
    stated = [*units, *[units[0] if len(units) == 1 else ""] * 3][:3]
    known = [MM_PER.get(_singular(unit)) for unit in stated]
    strange = sorted({u for u, mm in zip(stated, known, strict=True) if mm is None and _singular(u) not in _UNSTATED})
    notes = [f"the header gives lengths in the unknown unit {unit[:20]!r}; mm were assumed" for unit in strange]
    factors = np.array([1.0 if mm is None else mm for mm in known])
    if np.all(factors == 1):
        return factors, {}, notes
    unit = ", ".join(dict.fromkeys(unit.strip() for unit in stated if unit.strip()))
    return factors, {UNIT: unit}, [*notes, f"the header gives lengths in {unit!r}; they were converted to mm"]


def _singular(unit: str) -> str:
    plain = unit.strip().lower().replace("\N{MICRO SIGN}", "u").replace("\N{GREEK SMALL LETTER MU}", "u")
    return plain.removesuffix("s")
