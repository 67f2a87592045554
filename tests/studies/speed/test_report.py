"""Tables: what was not measured is blank, what was missed is bold."""

from __future__ import annotations

import json
from pathlib import Path

from studies.speed.clock import Cost, Row
from studies.speed.machine import Machine
from studies.speed.report import table, write

BOX = Machine("chip", 2, 8.0, gflops=100.0, gflops_bf16=200.0, gb_per_s=10.0, torch="t", numpy="n")


def test_a_table_has_a_section_for_each_part_and_blanks_for_the_unknown() -> None:
    plain = Row(part="mixture", what="fit", cost=Cost((1.0, 2.0, 3.0), (1.0, 2.0, 3.0)))
    missed = Row(part="odd", what="thing", cost=Cost((5.0,), ()), target="1 s", met=False, floor_s=0.5, floor="why")
    text = table([plain, missed], BOX)
    assert "| fit | 2 (1 to 3) |  |  |  |  |  |  |  |  |" in text
    assert "**no**" in text
    assert "### The mixture" in text
    assert "### odd" in text
    assert "- thing: why" in text
    assert "chip, 2 cores" in text


def test_files_hold_the_same_rows(tmp_path: Path) -> None:
    row = Row(part="mixture", what="fit", cost=Cost((1.0,), (1.0,)), amount=10.0, unit="rows")
    files = write(tmp_path / "new", [row], BOX)
    assert [path.name for path in files] == ["bench.md", "bench.json"]
    assert json.loads(files[1].read_text(encoding="utf-8"))["rows"] == [json.loads(json.dumps(row.to_dict()))]
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["bench.json", "bench.md"]
