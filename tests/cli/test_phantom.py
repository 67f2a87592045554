"""`diffseglung phantom` writes whole cases or nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from diffseglung import io
from diffseglung.cli import main
from diffseglung.io.npz import read_case


def test_cases_are_written_with_truth_and_parameters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["phantom", "-o", str(tmp_path), "-n", "2", "--seed", "5", "--size", "small", "--npz"]) == 0
    folders = sorted(p for p in tmp_path.iterdir() if p.is_dir())
    assert [f.name for f in folders] == ["phantom_train_0005", "phantom_train_0006"]
    assert capsys.readouterr().out.split() == [str(f) for f in folders]
    for folder in folders:
        ct, truth = io.read_volume(folder / "ct.nii.gz"), io.read_mask(folder / "truth.nii.gz")
        lungs = io.read_mask(folder / "lungs.nii.gz")
        assert ct.same_grid(truth)
        np.testing.assert_array_equal(truth.array > 0, lungs.array > 0)
        assert json.loads((folder / "meta.json").read_text(encoding="utf-8"))["generator"] == "procedural"
    case = read_case(tmp_path / "phantom__train_0005.npz")
    np.testing.assert_array_equal(case.lungs.array, io.read_mask(folders[0] / "lungs.nii.gz").array)
    assert not list(tmp_path.glob("*.part"))


def test_lesions_go_into_a_given_scan(tmp_path: Path) -> None:
    main(["phantom", "-o", str(tmp_path), "--size", "small", "--healthy", "-q"])
    base = tmp_path / "healthy_train_0000"
    words = [
        "--background",
        str(base / "ct.nii.gz"),
        "--lung-mask",
        str(base / "lungs.nii.gz"),
        "--split",
        "test",
        "-q",
    ]
    assert main(["phantom", "-o", str(tmp_path / "semi"), *words]) == 0
    (folder,) = (tmp_path / "semi").iterdir()
    truth = io.read_mask(folder / "truth.nii.gz")
    assert truth.same_grid(io.read_volume(base / "ct.nii.gz"))
    assert (truth.array > 1).any()


def test_condition_and_severity_shape_a_chest_and_a_given_scan(tmp_path: Path) -> None:
    chosen = ["--condition", "thick", "--severity", "subtle", "--models", "ggo_geographic", "-q"]
    assert main(["phantom", "-o", str(tmp_path / "a"), "--size", "small", *chosen]) == 0
    base = tmp_path / "a" / "phantom_train_0000"
    assert io.read_volume(base / "ct.nii.gz").spacing_mm[0] == pytest.approx(5.0)
    meta = json.loads((base / "meta.json").read_text(encoding="utf-8"))
    assert (meta["config"]["condition"], meta["config"]["severity"]) == ("thick", "subtle")
    words = ["--background", str(base / "ct.nii.gz"), "--lung-mask", str(base / "lungs.nii.gz")]
    chosen[1] = "low_dose"
    assert main(["phantom", "-o", str(tmp_path / "b"), *words, *chosen]) == 0
    (folder,) = (tmp_path / "b").iterdir()
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    assert (meta["condition"], meta["severity"]) == ("low_dose", "subtle")


def test_what_was_assumed_of_a_given_scan_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["phantom", "-o", str(tmp_path / "a"), "--size", "small", "--healthy", "--npz", "-q"]) == 0
    (made,) = (tmp_path / "a").glob("*.npz")
    with np.load(made) as case:
        np.savez(tmp_path / "bare.npz", ct=case["ct"], mask=case["mask"])
    bare = str(tmp_path / "bare.npz")
    assert main(["phantom", "-o", str(tmp_path / "b"), "--background", bare, "--lung-mask", bare]) == 0
    assert "note: the case gives no voxel spacing; 1 mm was assumed" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["-n", "0"],
        ["--lung-mask", "x.nii.gz"],
        ["--background", "x.nii.gz", "--healthy"],
        ["--background", "x.nii.gz", "--condition", "exhale"],
        ["--healthy", "--severity", "subtle"],
        ["--models", "ggo_nodule"],
    ],
)
def test_wrong_command_lines_write_nothing(tmp_path: Path, words: list[str]) -> None:
    assert main(["phantom", "-o", str(tmp_path / "out"), *words]) == 2
    assert not (tmp_path / "out").exists()
