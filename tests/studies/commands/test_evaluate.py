"""`diffseglung evaluate` scores pairs and folders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from diffseglung.cli import main
from diffseglung.io.nifti import write_nifti
from diffseglung.volume import Volume
from tests.studies.benchmarked import write_cases

AFFINE = np.eye(4)[[2, 1, 0, 3]]


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    """Two tiny cases, and predictions that are right for the first and all healthy for the second."""
    for i in range(2):
        truth = np.ones((12, 12, 12), np.uint8)
        truth[3:9, 3:9, 3:9] = 3
        hu = np.where(truth == 3, -500, -860)
        hu[:, 0] = 40
        folder = tmp_path / "cases" / f"case{i}"
        folder.mkdir(parents=True)
        for name, array in (("ct", hu.astype(np.int16)), ("lungs", (truth > 0).astype(np.uint8)), ("truth", truth)):
            write_nifti(folder / f"{name}.nii.gz", Volume(array, AFFINE))
        result = tmp_path / "results" / f"case{i}"
        result.mkdir(parents=True)
        write_nifti(result / "label_map.nii.gz", Volume(truth if i == 0 else np.ones_like(truth), AFFINE))
    return tmp_path


def test_a_pair_is_scored(cases: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--prediction", str(cases / "results/case0"), "--truth", str(cases / "cases/case0"), "--json"]
    assert main(["evaluate", *words]) == 0
    assert json.loads(capsys.readouterr().out)["pooled"]["prediction"]["mean_dice"] == 1


def test_folders_are_scored_with_baselines_and_written(cases: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--cases", str(cases / "cases"), "--predictions", str(cases / "results"), "--baselines"]
    assert main(["evaluate", *words, "-o", str(cases / "scores.json")]) == 0
    scores = json.loads((cases / "scores.json").read_text(encoding="utf-8"))["pooled"]
    assert scores["prediction"]["classes"]["ggo"]["dice_pooled"] == pytest.approx(2 / 3, abs=1e-3)
    assert {"hu_bands_slicer", "hu_bands_median", "fixed_mixture", "kmeans_radiomics"} < set(scores)
    assert (cases / "scores.csv").exists()
    assert "hu_bands_median" in capsys.readouterr().out


def test_a_folder_of_phantoms_is_labelled_by_the_default_method(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One command, and what `benchmark` finds; also of one case folder; a damaged case costs no other its scores."""
    folder = write_cases(tmp_path / "cases")
    assert main(["evaluate", "--cases", str(folder), "--no-surfaces", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["cases"]
    assert {method: list(scored) for method, scored in found.items()} == {"physics": ["case3", "case4"]}
    words = ["--cases", str(folder), "--only", "case3", "--methods", "physics", "--no-surfaces", "-d", "cpu", "-q"]
    assert main(["benchmark", "-o", str(tmp_path / "bench"), *words]) == 0
    kept = json.loads((tmp_path / "bench" / "results" / "case3" / "physics.json").read_text(encoding="utf-8"))
    assert found["physics"]["case3"] == kept["scores"]

    (folder / "case4" / "ct.nii.gz").write_bytes(b"damaged")
    words = ["evaluate", "--no-surfaces", "--baselines", "-q", "-o", str(tmp_path / "scores.json"), "--cases"]
    assert main([*words, str(folder)]) == 1
    assert "failed: case4\n" in capsys.readouterr().err
    scores = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))["cases"]
    assert list(scores["physics"]) == list(scores["hu_bands_median"]) == ["case3"]
    assert main([*words, str(folder / "case3")]) == 0
    assert main([*words, str(folder / "case4")]) == 2


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--prediction", "a.nii.gz"],
        ["--predictions", "x"],
        ["--cases", "nowhere", "--baselines"],
        ["--prediction", "nowhere.nii.gz", "--truth", "nowhere.nii.gz"],
    ],
)
def test_wrong_command_lines_are_refused(words: list[str]) -> None:
    assert main(["evaluate", *words]) == 2
