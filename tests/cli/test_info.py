"""A scan, a model and the installation describe themselves, for people and for programs."""

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
from diffseglung.platform.config import UNETS
from diffseglung.volume import Volume


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
    assert "orientation_zyx: SPR (oblique)" in capsys.readouterr().out


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


def test_installation(capsys: Any) -> None:
    assert run_command("info", ["--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["libraries"]["torch"]
    assert found["research_use_only"] is True
    assert run_command("info", []) == 0
    assert "diffseglung:" in capsys.readouterr().out


def test_unreadable_paths_are_2(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "bad.pt").write_text("no weights")
    for name in ("none.nii.gz", "none.pt", "bad.pt"):
        assert run_command("info", [str(tmp_path / name)]) == 2
        assert "try:" in capsys.readouterr().err
