"""`finetune` from cases to a model that `segment --method student` takes, resumed and told in words."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from diffseglung.cli import main
from diffseglung.config import UNETS
from diffseglung.labelling.bundle import load_bundle
from diffseglung.model import checkpoint
from diffseglung.model.card import ModelCard
from diffseglung.training.journal import read
from tests.toy_models import toy_network
from tests.toys import toy_cases

QUICK = ["--shape", "16", "16", "16", "--batch_size", "2", "--drawn", "0", "--precision", "fp32", "-q"]
QUICK += ["--log_every", "1", "--save_every", "2", "--sample_every", "0"]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start")
    toy_cases(folder / "npz")
    checkpoint.save(folder / "ddpm_distill.pt", toy_network(), ModelCard(unet=UNETS["tiny"]))
    return folder


def finetune(start: Path, results: Path, *more: str) -> int:
    cases = ["--npz_dir", str(start / "npz"), "--resume", str(start / "ddpm_distill.pt")]
    return main(["finetune", *cases, "--results_dir", str(results), *QUICK, *more])


def test_training_that_goes_on_equals_uninterrupted_training_and_gives_a_model(start: Path, tmp_path: Path) -> None:
    assert finetune(start, tmp_path / "whole", "--iterations", "4") == 0
    assert finetune(start, tmp_path / "parts", "--iterations", "2") == 0
    assert finetune(start, tmp_path / "parts", "--iterations", "4") == 0
    whole, parts = (checkpoint.load(tmp_path / name / "ddpm_segment.pt")[0] for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    lines = read(tmp_path / "whole" / "journal.jsonl")
    assert len(lines) == 4
    assert {"loss", "segmentation", "dice", "lambda"} <= lines[0].keys()
    bundle = load_bundle(tmp_path / "whole" / "ddpm_segment.pt")
    assert bundle.card.stage == 3
    assert bundle.card.training["backgrounds"] == ["toy__0", "toy__1"]
    assert bundle.segmenter.channels == 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["finetune"], "stage 3 begins with a trained model"),
        (["finetune", "--resume", "nowhere.pt"], "nowhere.pt does not exist"),
        (["finetune", "--resume", "{start}/ddpm_distill.pt", "--drawn", "0"], "nothing to draw into"),
        (["finetune", "--resume", "{start}/ddpm_distill.pt", "--npz_dir", "{start}"], "holds no cases"),
    ],
)
def test_what_is_missing_is_one_sentence_with_a_remedy(
    words: list[str], said: str, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word.format(start=start) for word in words]
    assert main([*words, "--results_dir", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert "try: " in told
    assert not (tmp_path / "out").exists()
