"""run.json is enough to make a result again; what is not the same is told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from diffseglung.cli import main
from tests.cli.test_bad_input import chest, save, series
from tests.output.dicom.conftest import identify_patient


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a scan, a mask, and the result of segmenting it in a way that is not the default."""
    folder = tmp_path_factory.mktemp("first")
    ct = save(folder / "ct.nii.gz", hazy())
    mask = save(folder / "lungs.nii.gz", (chest() < -600).astype(np.uint8) * _inner())
    words = ["-i", ct, "--lung-mask", mask, "--method", "rule", "--abstain", "0.9", "--no-preview", "--no-report", "-q"]
    assert main(["segment", *map(str, words), "-o", str(folder / "out")]) == 0
    return folder


def hazy() -> np.ndarray:
    """The chest with a haze that is none of the classes for sure."""
    hu = chest()
    hu[12:22, 16:30, 10:24] += 130
    return hu


def _inner() -> np.ndarray:
    inside = np.zeros((60, 50, 40), np.uint8)
    inside[10:26, 12:38, 6:34] = inside[34:50, 12:38, 6:34] = 1
    return inside


@pytest.fixture
def made(first: Path, tmp_path: Path) -> Path:
    """The same in a folder of the test's own, with the record pointing there."""
    folder = tmp_path / "made"
    shutil.copytree(first, folder)
    record = json.loads((folder / "out" / "run.json").read_text(encoding="utf-8"))
    record["source"] |= {"path": str(folder / "ct.nii.gz"), "lung_mask": str(folder / "lungs.nii.gz")}
    (folder / "out" / "run.json").write_text(json.dumps(record))
    return folder


def rerun(folder: Path, *words: object, capsys: pytest.CaptureFixture[str] | None = None) -> tuple[int, Any]:
    code = main(["rerun", str(folder / "out" / "run.json"), "-o", str(folder / "again"), "-q", *map(str, words)])
    return code, json.loads((folder / "again" / "run.json").read_text(encoding="utf-8")) if (
        folder / "again"
    ).exists() else None


def test_the_same_labels_files_and_settings_come_out(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, again = rerun(made, "--json")
    told = json.loads(capsys.readouterr().out)
    assert code == 0
    assert told["same_labels"]
    assert told["same_statistics"]
    assert told["voxels_that_differ"] == 0
    assert told["versions_that_differ"] == {}
    assert told["same_lung_network"]
    older = json.loads((made / "out" / "run.json").read_text(encoding="utf-8"))
    assert again["fingerprints"] == older["fingerprints"]
    assert again["files"] == older["files"]
    assert {**again["settings"], "precision": 0} == {**older["settings"], "precision": 0}
    for name in ("statistics.json", "label_map.nii.gz", "label_map.ctbl"):
        assert (made / "again" / name).read_bytes() == (made / "out" / name).read_bytes()


def test_other_weights_that_find_the_lungs_are_told(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = json.loads((made / "out" / "run.json").read_text(encoding="utf-8"))
    assert record["lung_network"] is None  # a mask was given
    (made / "out" / "run.json").write_text(json.dumps(record | {"lung_network": {"name": "x", "sha256": "0" * 64}}))
    assert rerun(made, "--json")[0] == 0
    assert not json.loads(capsys.readouterr().out)["same_lung_network"]


def test_files_that_moved_are_named_and_recognised(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (made / "ct.nii.gz").rename(made / "moved.nii.gz")
    assert rerun(made)[0] == 2
    assert rerun(made, "-i", made / "moved.nii.gz")[0] == 0


def test_another_scan_is_refused(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = hazy()
    other[20, 20, 20] += 1
    save(made / "ct.nii.gz", other)
    assert rerun(made) == (2, None)
    assert "not the scan of run.json" in capsys.readouterr().err


def test_another_mask_is_refused(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mask = _inner()
    mask[12, 14, 8] = 0
    save(made / "lungs.nii.gz", mask)
    assert rerun(made) == (2, None)
    assert "not the lung mask" in capsys.readouterr().err


def test_a_result_that_cannot_be_had_again_ends_with_1(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = json.loads((made / "out" / "run.json").read_text(encoding="utf-8"))
    record["settings"]["abstain"] = 0.0  # as if the record were not of these files
    (made / "out" / "run.json").write_text(json.dumps(record))
    code, _ = rerun(made, "--json")
    told = json.loads(capsys.readouterr().out)
    assert code == 1
    assert told["voxels_that_differ"] > 0
    assert not told["same_statistics"]


def test_the_older_result_is_never_overwritten(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.read_bytes() for path in (made / "out").iterdir()}
    assert main(["rerun", str(made / "out"), "-o", str(made / "out"), "-q"]) == 2
    assert {path.name: path.read_bytes() for path in (made / "out").iterdir()} == before


@pytest.mark.parametrize(
    "broken",
    [
        "", "[]", "{}", "null", "{" * 5000,
        '{"format": 1}', '{"format": 99}', '{"format": 1, "settings": {"method": 3}}',
        '{"format": 1, "settings": {"wrong": 1}, "precision": "fp32"}',
    ],
)  # fmt: skip
def test_what_is_no_run_json_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], broken: str) -> None:
    (tmp_path / "run.json").write_text(broken)
    assert main(["rerun", str(tmp_path / "run.json"), "-o", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert "try: " in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("field", ["fingerprints", "model", "files", "device", "lungs", "precision"])
def test_a_record_without_a_part_is_refused(made: Path, capsys: pytest.CaptureFixture[str], field: str) -> None:
    record = json.loads((made / "out" / "run.json").read_text(encoding="utf-8"))
    record.pop(field)
    (made / "out" / "run.json").write_text(json.dumps(record))
    assert rerun(made) == (2, None)


def test_a_series_of_several_and_its_patient(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The record knows the series by a hash; no identifier is in it, nor in the files, unless they were asked for."""

    def named(dataset: Any, k: int) -> None:
        identify_patient(dataset, k)
        dataset.PatientName, dataset.PatientID = "Doe^Jane", "MRN-0042"

    folder = series(tmp_path, named)
    words = ["segment", "-i", str(folder), "--method", "rule", "--no-preview", "-q"]
    assert main([*words, "-o", str(tmp_path / "out")]) == 0
    record = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    assert "identifiers" not in record["source"]
    assert len(record["source"]["series"]) == 16
    assert rerun(tmp_path)[0] == 0
    assert main([*words, "-o", str(tmp_path / "known"), "--keep-identifiers"]) == 0
    known = json.loads((tmp_path / "known" / "run.json").read_text(encoding="utf-8"))
    assert known["source"]["identifiers"]["PatientID"] == "MRN-0042"
    report = (tmp_path / "known" / "report.html").read_text(encoding="utf-8")
    assert "MRN-0042" in report
    assert "Doe^Jane" in report
    for file in (tmp_path / "out").iterdir():
        data = file.read_bytes() if file.suffix != ".gz" else nib.load(file).to_bytes()
        assert not [word for word in (b"MRN-0042", b"Doe") if word in data], file.name
    shutil.move(tmp_path / "series", tmp_path / "DOE_JANE")
    words[2] = str(tmp_path / "DOE_JANE")
    assert main([*words, "-o", str(tmp_path / "masked")]) == 0
    masked = json.loads((tmp_path / "masked" / "run.json").read_text(encoding="utf-8"))
    assert masked["source"]["path"] is None
    assert masked["input"] == f"scan-{masked['fingerprints']['ct'][:8]}"
    assert "DOE_JANE" not in (tmp_path / "masked" / "report.html").read_text(encoding="utf-8")
    assert main(["rerun", str(tmp_path / "masked"), "-o", str(tmp_path / "again"), "-q"]) == 2
    assert "name the scan with -i" in capsys.readouterr().err
