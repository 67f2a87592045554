"""Writing is all or nothing: complete files at the end, and an older result stays until then."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from diffseglung import output
from diffseglung.output import Products, dicom
from diffseglung.platform.errors import ConfigError
from diffseglung.segmentation import Segmentation

MAP = ("label_map.nii.gz", "label_map.ctbl", "label_map.label.txt")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_every_file_is_written_and_listed(chest: Segmentation, tmp_path: Path) -> None:
    paths = output.write(chest, tmp_path / "deep" / "out", Products(probabilities=True))
    expected = set(output.FILES) - set(dicom.NAMES.values())
    assert {path.name for path in paths} == names(tmp_path / "deep" / "out") == expected
    record = json.loads((tmp_path / "deep" / "out" / "run.json").read_text(encoding="utf-8"))
    assert set(record["files"]) == expected
    assert names(tmp_path / "deep") == {"out"}


def test_what_is_not_wanted_is_not_written(chest: Segmentation, tmp_path: Path) -> None:
    output.write(chest, tmp_path / "out", Products(preview=False, statistics=False, report=False))
    assert names(tmp_path / "out") == {*MAP, "run.json"}


def test_an_older_result_is_replaced_whole_and_other_files_stay(chest: Segmentation, tmp_path: Path) -> None:
    output.write(chest, tmp_path, Products(probabilities=True))
    (tmp_path / "notes.txt").write_text("mine")
    output.write(chest, tmp_path, Products(preview=False, report=False))
    assert names(tmp_path) == {*MAP, "run.json", "statistics.json", "notes.txt"}


def test_an_error_on_the_way_leaves_the_older_result_and_nothing_else(
    chest: Segmentation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output.write(chest, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(output, "write_label_map", fail)
    with pytest.raises(OSError, match="no space"):
        output.write(chest, tmp_path / "out")
    with pytest.raises(OSError, match="no space"):
        output.write(chest, tmp_path / "new")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert names(tmp_path) == {"out"}


def test_a_file_in_the_folder_s_place_is_refused(chest: Segmentation, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    for folder in (tmp_path / "taken", tmp_path / "taken" / "below"):
        with pytest.raises(ConfigError, match="not a folder"):
            output.write(chest, folder)


def test_probabilities_need_a_posterior(chest: Segmentation, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no posterior"):
        output.write(replace(chest, posterior=None), tmp_path / "out", Products(probabilities=True))
    assert not (tmp_path / "out").exists()
