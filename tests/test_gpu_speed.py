"""`scripts/gpu_speed.py` measures every part, on whatever device there is."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


def test_every_part_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    script = importlib.import_module("gpu_speed")
    monkeypatch.setattr(script, "BATCHES", (1, 2))
    monkeypatch.setattr(script, "TRAINING_BATCHES", (1,))
    small = ["--device", "cpu", "--size", "tiny", "--seconds", "0", "--tile", "16", "16", "16"]
    script.main(["-o", str(tmp_path / "speed.json"), *small])
    found = json.loads((tmp_path / "speed.json").read_text(encoding="utf-8"))
    assert len(found["inference"]) == 8
    assert all(row["tiles_per_second"] > 0 for row in found["inference"])
    assert len(found["training"]) == 4
    assert all(row["patches_per_second"] > 0 for row in found["training"])
    assert all(seconds > 0 for seconds in found["whole_scan"]["seconds_by_batch"].values())
    assert "FLASH_ATTENTION" in found["attention"]
    assert len(found["operations"]) == 10
