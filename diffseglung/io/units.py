"""Units of length that headers state; everything behind the readers is in millimetres."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

UNIT = "length_unit"
"""Key of `Scan.source`: what a header that is not in millimetres states."""
MM_PER = {
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1.0),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 10.0),
    **dict.fromkeys(("m", "meter", "metre"), 1000.0),
    **dict.fromkeys(("um", "micron", "micrometer", "micrometre"), 1e-3),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1e-6),
    **dict.fromkeys(("in", "inch", "inche"), 25.4),
}
"""Names without the s of the plural; the two letters mu are written u."""
_UNSAID = ("", "?", "???", "none", "unknown")


def in_mm(units: Sequence[str]) -> tuple[NDArray[np.float64], dict[str, str], list[str]]:
    """What a header's lengths are to be multiplied with along x, y and z.

    units: as the header states them, for each axis, or one for all. What is not stated, or not known here, counts as
    millimetres, and the latter is noted.  Returns the factors (3,), what `Scan.source` tells, and notes.
    """
    stated = [*units, *[units[0] if len(units) == 1 else ""] * 3][:3]
    known = [MM_PER.get(_plain(unit)) for unit in stated]
    strange = sorted({u for u, mm in zip(stated, known, strict=True) if mm is None and _plain(u) not in _UNSAID})
    notes = [f"the header gives lengths in {unit[:20]!r}, which is no known unit; mm were assumed" for unit in strange]
    factors = np.array([1.0 if mm is None else mm for mm in known])
    if np.all(factors == 1):
        return factors, {}, notes
    unit = ", ".join(dict.fromkeys(unit.strip() for unit in stated if unit.strip()))
    return factors, {UNIT: unit}, [*notes, f"the header gives lengths in {unit!r}; they were converted to mm"]


def _plain(unit: str) -> str:
    plain = unit.strip().lower().replace("\N{MICRO SIGN}", "u").replace("\N{GREEK SMALL LETTER MU}", "u")
    return plain.removesuffix("s")
