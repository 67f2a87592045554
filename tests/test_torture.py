"""The judge of `make torture` sees what it is there to see."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diffseglung.io import read_mask
from diffseglung.output import write
from diffseglung.output.record import fingerprint
from diffseglung.segmentation import Segmentation
from qa.torture.jobs import damage, digest
from qa.torture.kills import halves
from qa.torture.process import Ended
from qa.torture.report import table


@pytest.fixture
def result(chest: Segmentation, tmp_path: Path) -> Path:
    write(chest, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    record["fingerprints"] = {"label_map": fingerprint(read_mask(tmp_path / "out" / "label_map.nii.gz"))}
    (tmp_path / "out" / "run.json").write_text(json.dumps(record))
    return tmp_path / "out"


@pytest.mark.parametrize(
    ("code", "text", "fine"),
    [
        (0, "", True),
        (2, "error: the disk is full\n  try: make room", True),
        (1, "failed: a.nii.gz\n  it cannot be read\n  try: copy it again", True),
        (1, "error: something", False),
        (1, "", False),
        (-11, "", False),
        (1, "Traceback (most recent call last):\nerror: x\n  try: y", False),
        (1, "error: unexpected error\n  try: tell us", False),
    ],
)
def test_an_end_is_in_words_or_not(code: int, text: str, fine: bool) -> None:
    assert Ended(code, text, 1.0).in_words == fine


def test_a_whole_result_has_no_damage_and_equals_itself(result: Path) -> None:
    assert damage(result) == []
    assert digest(result) == digest(result)
    assert not halves(result)


@pytest.mark.parametrize("name", ["label_map.nii.gz", "statistics.json", "preview.png", "report.html"])
def test_a_file_that_is_cut_short_is_damage(result: Path, name: str) -> None:
    data = (result / name).read_bytes()
    (result / name).write_bytes(data[: len(data) // 2])
    assert any(name in problem for problem in damage(result))


def test_a_record_without_its_files_and_with_other_labels_is_damage(result: Path) -> None:
    (result / "preview.png").unlink()
    assert damage(result) == ["run.json: preview.png"]
    record = json.loads((result / "run.json").read_text())
    record["fingerprints"]["label_map"] = "0" * 64
    (result / "run.json").write_text(json.dumps(record))
    assert damage(result) == ["run.json: preview.png", "run.json: another label map"]


def test_a_single_other_figure_is_another_result(result: Path) -> None:
    before = digest(result)
    statistics = json.loads((result / "statistics.json").read_text())
    statistics["lung"]["HAA"] += 1e-6
    (result / "statistics.json").write_text(json.dumps(statistics))
    assert {name for name, value in digest(result).items() if value != before[name]} == {"statistics.json"}


def test_unfinished_files_are_seen_and_are_no_damage(result: Path) -> None:
    (result / ".label_map.nii.gz.part.1").write_bytes(b"half")
    assert halves(result)
    assert damage(result) == []


def test_losses_are_counted() -> None:
    row = {"trials": 3, "killed": 2, "losses": [{}]}
    fault = {"tried": 2, "well": 1, "told": 1, "losses": ["lost"]}
    text, lost = table({"kills": {"train": row}, "faults": {"full disk": fault}})
    assert lost == 2
    assert "| train | 3 | 2 | 0 | 1 |" in text
