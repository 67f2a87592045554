"""The table goes on where it was stopped; what cannot be known is null; a model that repeats its patches is told."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest

from diffseglung.platform.config import GenerationConfig
from diffseglung.platform.errors import ConfigError, InputError
from studies import generation
from studies.generation import Inputs, run
from studies.sample_sets import Drawn, Sampler, Studio
from tests.studies import drawing_toys

CONFIG = GenerationConfig(n=4, reference=6, resamples=20, precision="fp32", batch_size=3)
SAMPLERS = (Sampler("DPM-Solver++ 2", "dpm", 2), Sampler("ancestral, full chain", "ddpm", 0))


@pytest.fixture(autouse=True)
def few_samplers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation.sample_sets, "SAMPLERS", SAMPLERS)


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    return drawing_toys.inputs(tmp_path)


def test_every_row_and_file_is_there_and_a_second_run_measures_nothing(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, seen = tmp_path / "out", []

    def track(items: list[object], total: int) -> list[object]:
        seen.append(total)
        return items

    record = run(out, inputs, CONFIG, device="cpu", track=track)
    assert seen == [7]
    sets = [(row["set"], row["sampler"]) for row in record["rows"]]
    assert sets[:3] == [("held-out", None), ("training", None), ("training, real scans", None)]
    assert sets[3:] == [(f"stage {i}", s.title) for s in SAMPLERS for i in (1, 2)]
    assert [row["calls"] for row in record["rows"][3:]] == [2, 2, 12, 12]
    assert len(record["repairs"]) == 2 * 2 * 3
    for row in record["rows"]:
        for name, figure in row["figures"].items():
            assert figure["value"] is not None, (row["set"], name)
    assert json.loads((out / "generation.json").read_text(encoding="utf-8")) == record
    lines = list(csv.DictReader(io.StringIO((out / "generation.csv").read_text(encoding="utf-8"))))
    assert {line["metric"] for line in lines} >= {"frechet training", "recall", "voxels_hu ratio", "ssim lungs"}
    assert (out / "generation.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(generation, "_figures", None)
    monkeypatch.setattr(generation, "_likeness", None)
    monkeypatch.setattr(Studio, "_sample", None)
    assert run(out, inputs, CONFIG, device="cpu") == record


def test_without_training_patches_what_they_tell_is_unknown(inputs: Inputs, tmp_path: Path) -> None:
    record = run(tmp_path / "out", dataclasses.replace(inputs, patches_dir=None), CONFIG, device="cpu")
    assert record["about"]["training patches"] is None
    assert record["about"]["primary reference"] == "held-out"
    for row in record["rows"]:
        assert not [name for name in row["figures"] if "training" in name or "voxels" in name]
        assert row["figures"]["frechet held-out"]["value"] is not None
    assert "Unknown: the training patches were not given" in (tmp_path / "out" / "generation.md").read_text(
        encoding="utf-8"
    )


def test_a_model_that_repeats_training_patches_is_told(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert inputs.patches_dir is not None
    kept = np.load(inputs.patches_dir / "ct.npy")[:4].astype(np.float32)
    monkeypatch.setattr(Studio, "draw", lambda *_: Drawn(kept[:, ::-1].copy(), 2, 0.1))
    record = run(tmp_path / "out", inputs, CONFIG, device="cpu")
    sample = record["rows"][-1]["figures"]
    assert sample["voxels_hu"]["value"] < 1
    assert sample["voxels_hu ratio"]["high"] < 0.1
    assert record["rows"][1]["figures"]["voxels_hu"]["value"] > 5  # real patches do not repeat themselves
    assert "Warning, stage 1: by voxels" in (tmp_path / "out" / "generation.md").read_text(encoding="utf-8")


def test_held_out_patches_have_ratio_one_and_pairs_a_likeness_of_their_own(inputs: Inputs, tmp_path: Path) -> None:
    real = generation._real(inputs, CONFIG, generation._studios(inputs, _cpu(), tmp_path)[1], tmp_path)
    figures, _ = generation._figures(real.held.ct, real.held.lungs, None, real, CONFIG, real_row=False)
    assert figures["voxels_hu ratio"].value == 1
    assert figures["descriptors_sd ratio"].value == 1
    alike = generation.pairwise(np.concatenate([real.held.ct[:2], real.held.ct[:1]]))
    assert alike[0, 2] == pytest.approx(1)
    assert alike[0, 1] == pytest.approx(alike[1, 2])
    assert alike[0, 1] < 0.9


def test_models_of_different_patches_and_no_model_are_refused(inputs: Inputs, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no model"):
        run(tmp_path / "out", dataclasses.replace(inputs, models={}), CONFIG, device="cpu")
    real = generation.checkpoint.load

    def other(path: Path) -> tuple[object, object]:
        weights, card = real(path)
        spacing = 1.0 if path.stem == "stage2" else 2.0
        return weights, dataclasses.replace(card, patch=dataclasses.replace(card.patch, spacing_mm=spacing))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generation.checkpoint, "load", other)
        with pytest.raises(InputError, match="different kinds"):
            run(tmp_path / "out", inputs, CONFIG, device="cpu")


def test_a_checkout_offers_its_models_and_its_scan() -> None:
    root = Path(__file__).parents[2]
    found = Inputs.of_checkout(root)
    assert list(found.models) == ["stage 1", "stage 2"]
    assert all(path.is_file() for path in (*found.models.values(), *found.held_out[0]))


def _cpu() -> generation.runtime.Runtime:
    return generation.runtime.Runtime(device=generation.torch.device("cpu"))
