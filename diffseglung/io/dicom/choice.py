"""Choose one of several CT series by a fixed rule, and explain the choice in a sentence.

The criteria, in this order: axial; covers a whole chest, or most of the longest series; original rather than
reformatted; thin; soft kernel; longer; more slices per length. The user must choose between series that are equal in
all of these, between patients, and between studies unless one is better before length and number of slices count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from diffseglung.io.dicom.series import THIN_MM, Series
from diffseglung.platform.errors import InputError

WHOLE_SHARE, WHOLE_MM = 0.6, 240.0
"""A series is partial if it covers less than this share of the longest axial one and less than the height of lungs."""
LONG_MM = 400.0
"""Coverage beyond the height of a chest (abdomen, legs) does not count."""
LENGTH_STEP_MM = 20.0
"""Differences in length below this are ignored."""


@dataclass(frozen=True, order=True)
class Rank:
    """The criteria in order of priority; greater is better."""

    axial: bool
    whole: bool
    original: bool
    thin: bool
    soft: bool
    length: int = 0
    slices: int = 0

    @property
    def kind(self) -> tuple[bool, ...]:
        """The criteria without length and number of slices."""
        return (self.axial, self.whole, self.original, self.thin, self.soft)


def rank(series: Series, longest_mm: float) -> Rank:
    """The rank of a series.  longest_mm: coverage of the longest axial series."""
    return Rank(
        series.is_axial,
        series.coverage_mm >= min(WHOLE_SHARE * longest_mm, WHOLE_MM),
        series.is_original,
        series.is_thin,
        not series.is_sharp,
        round(min(series.coverage_mm, LONG_MM) / LENGTH_STEP_MM),
        round(series.count * min(1.0, LONG_MM / max(series.coverage_mm, 1.0))),
    )


def choose(candidates: Sequence[Series], name: str) -> Series:
    """The best of the usable series. Raises InputError if none is usable, or two are equally good."""
    usable = [series for series in candidates if series.defect is None]
    if not usable:
        raise _unusable(candidates, name)
    longest = max((s.coverage_mm for s in usable if s.is_axial), default=0.0)
    ranked = sorted(usable, key=lambda s: rank(s, longest), reverse=True)
    best = ranked[0]
    ranks = {id(s): rank(s, longest) for s in ranked}
    patients = {s.first.patient_id for s in usable}
    rivals = [
        s
        for s in ranked[1:]
        if ranks[id(s)] == ranks[id(best)]
        or (s.first.study_uid != best.first.study_uid and ranks[id(s)].kind == ranks[id(best)].kind)
    ]
    if len(patients) > 1 or rivals:
        what = f"CT series of {len(patients)} patients" if len(patients) > 1 else f"{len(candidates)} CT series"
        equal = usable if len(patients) > 1 else [best, *rivals]
        raise InputError(
            f"{name} holds {what}: {listing(equal)}",
            remedy="choose one with --series NUMBER (or its UID), or pass the folder of one series",
        )
    return best


def find(candidates: Sequence[Series], wish: str, name: str) -> Series:
    """The series with this UID, hash of the UID, or number. Raises InputError if there is none, or several."""
    found = [s for s in candidates if wish in (s.first.series_uid, s.first.series_hash, s.first.series_number)]
    found = [s for s in found if not s.first.foreign] or found
    if len(found) != 1:
        problem = "has no series" if not found else f"has {len(found)} series with number"
        remedy = f"choose one of: {listing(candidates)}"
        if found:
            remedy = "give its SeriesInstanceUID, which `diffseglung info --json` lists"
        raise InputError(f"{name} {problem} {wish}", remedy=remedy)
    return found[0]


def reason(best: Series, candidates: Sequence[Series]) -> str:
    """A sentence on which of several series was chosen, and why, without free text of the header."""
    first = best.first
    words = [
        "axial" if best.is_axial else "not axial",
        "original" if best.is_original else "reformatted or derived",
        f"{'thin' if best.is_thin else f'thicker than {THIN_MM:g} mm'} "
        f"(thickness {_mm(first.thickness_mm)}, distance {_mm(best.spacing_mm)})",
        f"{'sharp' if best.is_sharp else 'soft'} kernel ({first.kernel})" if first.kernel else "kernel not stated",
        f"{best.count} slices",
    ]
    usable = [series for series in candidates if series.defect is None]
    text = f"series {best.label} of {len(candidates)} CT series was chosen: {', '.join(words)}"
    if len(usable) < len(candidates):
        text += f"; {len(candidates) - len(usable)} of the others cannot be used"
    longest = max((s.coverage_mm for s in candidates if s.is_axial), default=0.0)
    better = [
        s for s in candidates if s.defect is not None and not s.foreign and rank(s, longest) > rank(best, longest)
    ]
    if better:
        text += f", of which series {better[0].label} would have been better ({better[0].defect.problem})"  # type: ignore[union-attr]
    return text


def listing(candidates: Sequence[Series]) -> str:
    """The titles of at most eight series, for a message."""
    rows = [series.title for series in candidates]
    return "; ".join(rows[:8]) + ("; ..." if len(rows) > 8 else "")


def _mm(value: float | None) -> str:
    return "not stated" if value is None else f"{value:g} mm"


def _unusable(candidates: Sequence[Series], name: str) -> InputError:
    rows = [f"{s.label}: {s.defect.problem}" for s in candidates[:4] if s.defect]
    more = f" (and {len(candidates) - 4} more)" if len(candidates) > 4 else ""
    return InputError(
        f"{name} holds {len(candidates)} CT series, of which none can be used ({'; '.join(rows)}){more}",
        remedy="`diffseglung info` lists them with their reasons; pass a complete axial series in HU",
    )
