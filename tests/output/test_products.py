"""A file that fails costs no other file, and is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from diffseglung import output
from diffseglung.output import Products, dicom
from diffseglung.output.products import Attempts
from diffseglung.platform.errors import InputError, OutputError
from diffseglung.segmentation import Segmentation

REASONS = (OSError(28, "No space left on device"), MemoryError(), ValueError("1950-01-02 of the patient"))


def test_what_fails_goes_and_the_rest_stays(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path)
    with attempts.at("a", "b"):
        (tmp_path / "a").write_text("half")
        raise InputError("no good", remedy="another")
    with attempts.at("c"):
        (tmp_path / "c").write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    with pytest.raises(
        OutputError, match=r"a, b could not be made \(no good\); the other files are complete"
    ) as caught:
        attempts.require([tmp_path / "c"])
    assert caught.value.remedy == "another"
    assert caught.value.files == [tmp_path / "c"]


def test_ctrl_c_is_no_failure_of_one_file(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Attempts(tmp_path).at("a"):
        raise KeyboardInterrupt


EXTRAS = {
    "draw": ("preview.png",),
    "report": ("report.html",),
    "write_probabilities": ("probabilities.nii.gz",),
    "dicom": tuple(dicom.NAMES.values()),
}


@pytest.mark.parametrize(
    ("function", "cause"), [("draw", REASONS[0]), ("draw", REASONS[1]), *((name, REASONS[2]) for name in EXTRAS)]
)
def test_no_extra_file_costs_the_others(
    chest: Segmentation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, cause: Exception
) -> None:
    files = EXTRAS[function]
    (tmp_path / "out").mkdir()
    for name in files:
        (tmp_path / "out" / name).write_text("of an older result")

    def fail(*_: Any, **__: Any) -> bytes:
        raise cause

    place: Any = output.dicom if function == "dicom" else output
    monkeypatch.setattr(place, "check_objects" if function == "dicom" else function, fail)
    products = Products(
        preview=function == "draw",
        report=function == "report",
        probabilities=function == "write_probabilities",
        dicom=("seg", "sr", "sc") if function == "dicom" else (),
    )
    with pytest.raises(OutputError) as caught:
        output.write(chest, tmp_path / "out", products)
    there = {path.name for path in (tmp_path / "out").iterdir()}
    assert there == {"label_map.nii.gz", "label_map.ctbl", "label_map.label.txt", "statistics.json", "run.json"}
    record = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    assert record["failed"] == sorted(files)
    assert set(record["files"]) == {path.name for path in caught.value.files} == there
    assert all(name in caught.value.problem for name in files)
    assert "1950" not in str(caught.value)


def test_a_good_result_names_no_failure(chest: Segmentation, tmp_path: Path) -> None:
    output.write(chest, tmp_path / "out", Products(preview=False, report=False))
    assert "failed" not in json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
