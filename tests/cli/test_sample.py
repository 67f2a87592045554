"""The command `sample`, on a toy model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from diffseglung.cli import run_command
from diffseglung.io.nifti import read_nifti, write_nifti
from diffseglung.method import checkpoint
from diffseglung.method.card import ModelCard
from diffseglung.method.unet import UNet
from diffseglung.platform.config import UNETS, DiffusionConfig, PatchConfig
from diffseglung.volume import Volume


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    weights = {f"network.{name}": value for name, value in UNet(UNETS["tiny"]).state_dict().items()}
    patch = PatchConfig(shape=(8, 12, 16), spacing_mm=2.0)
    card = ModelCard(unet=UNETS["tiny"], diffusion=DiffusionConfig(steps=20), patch=patch, name="toy")
    checkpoint.save(tmp_path / "toy.pt", weights, card)
    return tmp_path / "toy.pt"


def test_samples_are_written_in_hu_with_their_spacing(toy: Path, tmp_path: Path) -> None:
    out = tmp_path / "samples"
    assert run_command("sample", ["--model", str(toy), "--out", str(out), "-n", "2", "--steps", "3"]) == 0
    names = ["sample_000.nii.gz", "sample_001.nii.gz", "samples.json", "samples.png"]
    assert sorted(path.name for path in out.iterdir()) == names
    volume = read_nifti(out / "sample_001.nii.gz")
    assert volume.shape == (8, 12, 16)
    assert volume.spacing_mm == pytest.approx((2.0, 2.0, 2.0))
    assert -1000 <= volume.array.min() < volume.array.max() <= 400
    record = json.loads((out / "samples.json").read_text(encoding="utf-8"))
    assert record["model"]["name"] == "toy"
    assert record["model"]["sha256"] == checkpoint.sha256(toy)
    assert record["settings"]["steps"] == 3


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_other_samplers_and_shapes(toy: Path, tmp_path: Path, sampler: str) -> None:
    words = f"-m {toy} -o {tmp_path / 'out'} -n 1 -q --sampler {sampler} --steps 2 --mask full --shape 4 8 4 --seed 3"
    assert run_command("sample", words.split()) == 0
    assert read_nifti(tmp_path / "out" / "sample_000.nii.gz").shape == (4, 8, 4)


def test_lungs_come_from_a_mask_file(toy: Path, tmp_path: Path, oblique_affine: np.ndarray) -> None:
    mask = np.zeros((20, 40, 40), np.uint8)
    mask[4:16, 5:35, 5:35] = 1
    write_nifti(tmp_path / "lungs.nii.gz", Volume(mask, oblique_affine))
    words = f"-m {toy} -o {tmp_path / 'out'} -n 1 -q --steps 2 --mask {tmp_path / 'lungs.nii.gz'}"
    assert run_command("sample", words.split()) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--shape 8 8 9", "multiples of 4"),
        ("--shape 0 8 8", "is empty"),
        ("-n 0", "num_samples is 0"),
        ("--order 4", "order is 4"),
        ("--steps 0", "steps is 0"),
        ("--mask nowhere.npz", "does not exist"),
        ("--model nowhere.pt", "does not exist"),
        ("--device cuda:99", "device cuda:99"),
    ],
)
def test_what_cannot_be_drawn_is_said_and_leaves_nothing(
    toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture, words: str, said: str
) -> None:
    out = tmp_path / "out"
    assert run_command("sample", ["--model", str(toy), "--out", str(out), *words.split()]) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()
