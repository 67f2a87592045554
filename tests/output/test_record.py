"""run.json holds what is needed to make a result again, in plain JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from diffseglung import __version__
from diffseglung.output.record import describe, plain, write_json
from diffseglung.segmentation import Segmentation


def test_the_record_holds_versions_grid_settings_and_files(chest: Segmentation) -> None:
    record = describe(chest, ["run.json", "label_map.nii.gz"])
    assert record["versions"]["diffseglung"] == __version__
    assert {"python", "torch", "numpy"} <= record["versions"].keys()
    assert record["grid"]["shape_zyx"] == [40, 36, 48]
    assert record["settings"]["method"] == "seeded"
    assert record["warnings"] == ["thick slices"]
    assert record["files"] == ["label_map.nii.gz", "run.json"]
    assert "not a medical device" in record["notice"].lower()


def test_unknown_numbers_become_null(tmp_path: Path) -> None:
    value = {"a": np.float32("nan"), 1: [np.int64(3), float("inf"), np.array([1.5])], "path": Path("x"), "no": None}
    assert plain(value) == {"a": None, "1": [3, None, [1.5]], "path": "x", "no": None}
    write_json(tmp_path / "x.json", value)
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == plain(value)
