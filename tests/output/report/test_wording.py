"""The methods paragraph says what the record holds and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from diffseglung import __version__
from diffseglung.output.report import wording

SPACING = (1.25, 0.7, 0.7)


def test_it_names_version_method_and_voxels() -> None:
    text = wording.methods({"settings": {"method": "physics", "spacing_mm": 1.5}}, SPACING)
    assert f"DiffSegLung {__version__} (method 'physics') on a CT of 0.70 x 0.70 x 1.25 mm voxels" in text
    assert "1.5 mm grid" in text
    assert "research use only" in text


@pytest.mark.parametrize(("given", "words"), [("given", "supplied"), ("found", "found automatically")])
def test_it_tells_where_the_lungs_came_from(given: str, words: str) -> None:
    assert words in wording.methods({"scan": {"lung_mask": given}}, SPACING)


def test_it_names_the_tool_that_found_the_lungs() -> None:
    tool = {"name": "TotalSegmentator", "version": "2.18.0", "model": "total"}
    run: dict[str, Any] = {"scan": {"lung_mask": "found"}, "lung_tool": tool}
    assert "found by TotalSegmentator 2.18.0 (model total), third-party software" in wording.methods(run, SPACING)
    run["lung_tool"] = tool | {"version": None}
    assert "found by TotalSegmentator (model total)" in wording.methods(run, SPACING)


def test_a_model_is_named_only_where_one_was_used() -> None:
    run: dict[str, Any] = {"settings": {"method": "combined"}, "model": {"name": "lung-small", "sha256": "ab" * 32}}
    assert "lung-small (SHA-256 abababababababab)" in wording.methods(run, SPACING)
    assert wording.LEARNED in wording.methods(run, SPACING)
    assert "SHA-256" not in wording.methods({"settings": {"method": "physics"}}, SPACING)
    assert wording.RULE in wording.methods({"settings": {"method": "physics"}}, SPACING)


def test_each_lung_s_own_level_is_told() -> None:
    run: dict[str, Any] = {"settings": {"spacing_mm": 1.5}, "scan": {"healthy_level_hu": -840.0}}
    assert "healthy lung of this scan at -840 HU" in wording.methods(run, SPACING)
    run["scan"]["lung_levels_hu"] = [-880.0, -790.0]
    assert "healthy lung at -880 HU in the right and -790 HU in the left lung" in wording.methods(run, SPACING)


def test_every_setting_is_listed() -> None:
    rows = dict(
        wording.settings_rows({"settings": {"a": 1, "b": "x"}, "model": {"name": "m"}, "scan": {"air_hu": -990}})
    )
    assert rows == {"a": "1", "b": "x", "model name": "m", "air hu": "-990"}
