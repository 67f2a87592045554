"""A scan carries what its reader knows, and nothing by default."""

from __future__ import annotations

from diffseglung.io.scan import Scan
from diffseglung.volume import Volume


def test_notes_and_source_belong_to_one_scan(chest: Volume) -> None:
    one, other = Scan(chest), Scan(chest)
    one.notes.append("thick")
    one.source["format"] = "NIfTI"
    assert other.notes == []
    assert other.source == {}
