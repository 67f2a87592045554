"""`finetune` from cases to a model that `segment --method student` takes, resumed and told in words."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from diffseglung.cli import main
from diffseglung.dry_run import foretell
from diffseglung.method import checkpoint
from diffseglung.method.card import ModelCard
from diffseglung.method.train.journal import read
from diffseglung.output.report.wording import methods
from diffseglung.phantom.backgrounds import SPACING_MM, Background
from diffseglung.pipeline import Segmenter
from diffseglung.platform.config import UNETS, SegmentConfig
from diffseglung.platform.errors import CheckpointError
from diffseglung.platform.runtime import Runtime
from diffseglung.tissue.bundle import load_bundle
from diffseglung.tissue.methods import Rows
from tests.toy_models import toy_network, toy_phantom
from tests.toys import toy_cases, toy_prepared

QUICK = ["--shape", "16", "16", "16", "--batch_size", "2", "--chests", "0", "--precision", "fp32", "-q"]
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
    assert bundle.card.patch.spacing_mm == SPACING_MM
    assert bundle.segmenter().channels == 5


def test_it_goes_on_from_a_model_that_labels_tissue(start: Path, tmp_path: Path) -> None:
    assert finetune(start, tmp_path / "first", "--iterations", "2") == 0
    taught = tmp_path / "first" / "ddpm_segment.pt"
    assert finetune(start, tmp_path / "second", "--iterations", "1", "--lr", "1e-9", "--resume", str(taught)) == 0
    one, two = (checkpoint.load(path)[0] for path in (taught, tmp_path / "second" / "ddpm_segment.pt"))
    assert one.keys() == two.keys()
    assert all(torch.allclose(value, two[name], atol=1e-6) for name, value in one.items())


def test_a_case_that_changed_is_prepared_anew_and_ends_a_run_on_the_old_one(
    start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = tmp_path / "npz"
    shutil.copytree(start / "npz", cases)
    own = ["--npz_dir", str(cases)]
    assert finetune(start, tmp_path / "out", "--iterations", "2", *own) == 0
    before = Background.load(tmp_path / "out" / "backgrounds" / "toy__0").digest
    shutil.copyfile(cases / "toy__1.npz", cases / "toy__0.npz")
    assert finetune(start, tmp_path / "out", "--iterations", "4", *own) == 2
    assert "toy__0" in capsys.readouterr().err
    assert Background.load(tmp_path / "out" / "backgrounds" / "toy__0").digest != before


def test_the_model_labels_scans_with_the_rule_and_says_so(start: Path, tmp_path: Path) -> None:
    """Chosen where no method is named, foretold as what it is, and refused of a model that was not taught to."""
    assert finetune(start, tmp_path, "--iterations", "2") == 0
    model, case = tmp_path / "ddpm_segment.pt", toy_phantom()
    segmenter = Segmenter.load(model)
    assert segmenter.config.method == "student"
    result = segmenter(case.ct, case.lungs)
    assert (result.label_map.array > 0).sum() == (case.lungs.array > 0).sum()
    assert "trained on synthetic lesions" in methods(result.run, case.ct.spacing_mm)
    told = foretell(segmenter, case.ct, case.lungs)
    assert told.tiles == told.calls > 0
    with pytest.raises(CheckpointError, match="not trained to label tissue"):
        Segmenter.load(start / "ddpm_distill.pt", config=SegmentConfig(method="student"))


def test_every_position_has_a_posterior_on_an_odd_grid_with_lung_at_its_border(start: Path, tmp_path: Path) -> None:
    assert finetune(start, tmp_path, "--iterations", "2") == 0
    lungs, aligned = np.zeros((21, 27, 27), bool), np.full((21, 27, 27), -860, np.float32)
    lungs[4:, 4:, 4:] = True
    prepared = dataclasses.replace(toy_prepared(), lungs=lungs, aligned=aligned)
    rows = Rows(prepared, load_bundle(tmp_path / "ddpm_segment.pt"), Runtime(device=torch.device("cpu")))
    assert len(rows.segmented) == len(rows.where.index)
    assert torch.allclose(rows.segmented.sum(1), torch.ones(len(rows.segmented)), atol=1e-5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["finetune"], "stage 3 needs a trained model"),
        (["finetune", "--resume", "nowhere.pt"], "nowhere.pt does not exist"),
        (["finetune", "--resume", "{start}/ddpm_distill.pt", "--chests", "0"], "no backgrounds for the lesions"),
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
