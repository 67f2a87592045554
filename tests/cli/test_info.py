"""`info` describes and checks scans, cases, models, results and the installation, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffseglung.cli import run_command
from diffseglung.cli.info import orientation
from diffseglung.io.nifti import write_nifti
from diffseglung.method import checkpoint
from diffseglung.method.unet import UNet
from diffseglung.phantom.folder import write_case_folder
from diffseglung.platform.config import UNETS
from diffseglung.volume import Volume
from tests.toy_models import small_phantom
from tests.toys import toy_cases


def _chest(affine: np.ndarray) -> Volume:
    hu = np.full((12, 20, 24), -1000, np.int16)
    hu[:, 3:17, 3:21] = 40
    hu[2:10, 6:14, 5:19] = -860
    return Volume(hu + np.random.default_rng(0).integers(-9, 9, hu.shape).astype(np.int16), affine)


def test_scan(tmp_path: Path, oblique_affine: np.ndarray, capsys: Any) -> None:
    write_nifti(tmp_path / "a.nii.gz", _chest(oblique_affine))
    assert run_command("info", [str(tmp_path / "a.nii.gz"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["format"] == "NIfTI"
    assert found["shape_zyx"] == [12, 20, 24]
    assert found["spacing_mm_zyx"] == [2.5, 0.8, 0.7]
    assert found["orientation_zyx"] == "SPR (oblique)"
    assert found["hu_percentiles"]["0"] == pytest.approx(-1009, abs=1)
    assert any("covers only 30 mm" in note for note in found["notes"])
    assert run_command("info", [str(tmp_path / "a.nii.gz")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "orientation_zyx: SPR (oblique)" in lines
    assert lines[-1].startswith(f"odd: {tmp_path / 'a.nii.gz'} (")
    assert run_command("info", [str(tmp_path / "a.nii.gz"), "-q"]) == 0
    assert capsys.readouterr().out.splitlines() == lines[-1:]


@pytest.mark.parametrize(
    ("columns", "letters"),
    [([[0, 0, 1], [0, 1, 0], [1, 0, 0]], "SPL"), ([[0, 0, -1], [0, -1, 0], [-1, 0, 0]], "IAR")],
)
def test_orientation_letters(columns: list[list[int]], letters: str) -> None:
    affine = np.eye(4)
    affine[:3, :3] = np.array(columns).T * 2.0
    assert orientation(affine) == letters


def test_model(tmp_path: Path, capsys: Any) -> None:
    network = UNet(UNETS["tiny"])
    weights = {checkpoint.NETWORK + name: value for name, value in network.state_dict().items()}
    checkpoint.save(tmp_path / "m.safetensors", weights, checkpoint.ModelCard(unet=UNETS["tiny"], name="toy"))
    assert run_command("info", [str(tmp_path / "m.safetensors"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["name"] == "toy"
    assert found["network_parameters"] == sum(value.numel() for value in network.state_dict().values())
    assert len(found["sha256"]) == 64
    assert run_command("info", [str(tmp_path / "m.safetensors")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "nothing odd was found"
    weights["network.enter.weight"][0, 0] = float("nan")
    checkpoint.save(tmp_path / "m.safetensors", weights, checkpoint.ModelCard(unet=UNETS["tiny"], name="toy"))
    assert run_command("info", [str(tmp_path / "m.safetensors")]) == 0
    assert "network.enter.weight holds values that are not finite" in capsys.readouterr().out.splitlines()[-1]


def test_case_folder(tmp_path: Path, capsys: Any) -> None:
    phantom = small_phantom(3)
    write_case_folder(phantom, tmp_path / "case")
    assert run_command("info", [str(tmp_path / "case"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kind"] == "case"
    assert found["shape_zyx"] == list(phantom.ct.shape)
    assert sum(found["truth_ml"].values()) == pytest.approx(found["lung_ml"], abs=1)
    lungs = phantom.lungs.with_array(np.zeros_like(phantom.lungs.array))
    write_nifti(tmp_path / "case" / "lungs.nii.gz", lungs)
    assert run_command("info", [str(tmp_path / "case"), "--json"]) == 0
    assert "truth.nii.gz labels voxels outside the lungs" in json.loads(capsys.readouterr().out)["notes"]
    write_nifti(tmp_path / "case" / "lungs.nii.gz", Volume(lungs.array[1:], lungs.affine))
    assert run_command("info", [str(tmp_path / "case"), "--json"]) == 0
    assert "lungs.nii.gz is not on the grid of ct.nii.gz" in json.loads(capsys.readouterr().out)["notes"]


def test_npz_case(tmp_path: Path, capsys: Any) -> None:
    (case,) = toy_cases(tmp_path, 1)
    assert run_command("info", [str(case), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["lung_ml"] > 0) == ("scan", True)
    with np.load(case) as arrays:
        np.savez(case, ct=arrays["ct"], meta=arrays["meta"])
    assert run_command("info", [str(case), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["lung_ml"] is None
    assert any("mask" in note for note in found["notes"])


def test_result(tmp_path: Path, capsys: Any) -> None:
    phantom = small_phantom(3)
    write_nifti(tmp_path / "ct.nii.gz", phantom.ct)
    write_nifti(tmp_path / "lungs.nii.gz", phantom.lungs)
    words = ["-i", str(tmp_path / "ct.nii.gz"), "--lung-mask", str(tmp_path / "lungs.nii.gz")]
    assert run_command("segment", [*words, "-o", str(tmp_path / "out"), "-f", "--no-preview", "--no-report", "-q"]) == 0
    assert run_command("info", [str(tmp_path / "out"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["method"], found["model"]) == ("result", "physics", None)
    assert found["volume_ml"]["healthy"] > 0
    (tmp_path / "out" / "label_map.nii.gz").unlink()
    assert run_command("info", [str(tmp_path / "out" / "run.json")]) == 0
    assert "label_map.nii.gz is missing" in capsys.readouterr().out


def test_several_paths_are_one_list_and_one_bad_path_does_not_hide_the_others(tmp_path: Path, capsys: Any) -> None:
    (case,) = toy_cases(tmp_path, 1)
    (tmp_path / "bad.pt").write_text("no weights")
    assert run_command("info", [str(tmp_path / "bad.pt"), str(case), "--json"]) == 2
    told = capsys.readouterr()
    assert [found["kind"] for found in json.loads(told.out)] == ["unreadable", "scan"]
    assert told.err.startswith("error: ")
    assert run_command("info", [str(tmp_path / "bad.pt"), str(case)]) == 2
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"odd: {tmp_path / 'bad.pt'} (")


def test_installation(capsys: Any) -> None:
    assert run_command("info", ["--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["libraries"]["torch"]
    assert found["research_use_only"] is True
    assert run_command("info", ["--no-self-test"]) == 0
    assert "good  diffseglung" in capsys.readouterr().out


def test_unreadable_paths_are_2(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "bad.pt").write_text("no weights")
    for name in ("none.nii.gz", "none.pt", "bad.pt"):
        assert run_command("info", [str(tmp_path / name)]) == 2
        assert "try:" in capsys.readouterr().err
