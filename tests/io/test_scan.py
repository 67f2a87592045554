"""A scan carries what its reader knows, and nothing by default."""

from __future__ import annotations

import pytest

from diffseglung.io.scan import UNIT, Scan, in_mm
from diffseglung.volume import Volume


def test_notes_and_source_belong_to_one_scan(chest: Volume) -> None:
    one, other = Scan(chest), Scan(chest)
    one.notes.append("thick")
    one.source["format"] = "NIfTI"
    assert other.notes == []
    assert other.source == {}


@pytest.mark.parametrize(
    ("unit", "mm"),
    [
        ("mm", 1),
        ("um", 1e-3),
        ("µm", 1e-3),
        ("μm", 1e-3),
        ("Microns", 1e-3),
        ("cm", 10),
        (" M ", 1000),
        ("inches", 25.4),
    ],
)
def test_known_units(unit: str, mm: float) -> None:
    factors, source, notes = in_mm([unit])
    assert factors.tolist() == [mm] * 3
    assert source == ({} if mm == 1 else {UNIT: unit.strip()})
    assert len(notes) == (mm != 1)


def test_each_axis_has_its_own_and_what_is_not_said_is_mm() -> None:
    assert in_mm(["um", "um", "cm", "s"])[0].tolist() == [1e-3, 1e-3, 10]
    assert in_mm(["cm", "cm"])[0].tolist() == [10, 10, 1]
    for unsaid in ([""], ["?"], ["mm", "", "???"]):
        factors, source, notes = in_mm(unsaid)
        assert (factors.tolist(), source, notes) == ([1, 1, 1], {}, [])


def test_an_unknown_unit_is_told() -> None:
    factors, source, notes = in_mm(["furlong"])
    assert (factors.tolist(), source) == ([1, 1, 1], {})
    assert notes == ["the header gives lengths in the unknown unit 'furlong'; mm were assumed"]
