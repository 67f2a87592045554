"""Who takes part, and that a benchmark answers as the pipeline does."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch

from diffseglung.method.features import Projection
from diffseglung.pipeline import Segmenter
from diffseglung.platform.config import METHODS, SegmentConfig
from diffseglung.platform.errors import CheckpointError, ConfigError
from diffseglung.platform.runtime import Runtime
from diffseglung.tissue.bundle import Bundle
from diffseglung.tissue.local import SHAPED_NAMES
from diffseglung.tissue.methods import WITHOUT_MODEL
from studies.baselines import BASELINES
from studies.compared_methods import LoadedModels, all_candidates, choose
from tests.toy_models import small_phantom


def test_every_method_and_baseline_takes_part() -> None:
    keys = all_candidates(base=False).keys()
    assert {*METHODS, *BASELINES} < keys
    assert next(iter(keys)) == SegmentConfig().method
    assert any(key.endswith("_no_fusion") for key in keys)
    assert not any(key.endswith("_base") for key in keys)
    assert {"published_base", "attention_base", "diffusion_base"} < all_candidates(base=True).keys()


def test_without_a_model_those_that_need_one_are_left_out_and_named() -> None:
    chosen, notes = choose(None, None)
    variants = {SegmentConfig().method + ending for ending in ("_no_fusion", "_fast")}
    assert {e.key for e in chosen} == {*WITHOUT_MODEL, *variants, *BASELINES}
    assert any(note.startswith("combined ") for note in notes)


def test_what_cannot_run_is_refused_when_asked_for() -> None:
    with pytest.raises(ConfigError):
        choose(["nonsense"], None)
    with pytest.raises(ConfigError) as found:
        choose(["published_base"], None)
    assert "--base-model" in found.value.remedy
    with pytest.raises(CheckpointError):
        choose(["combined"], None)


def test_an_answer_is_the_pipeline_s() -> None:
    case = small_phantom(3)
    chosen, _ = choose(["physics", "physics_no_fusion", "hu_bands_median"], None)
    field = LoadedModels(runtime=Runtime(device=torch.device("cpu")))
    answers = {candidate.key: answer for candidate, answer in field.predictions(case.ct, case.lungs, chosen)}
    for key, fusion in (("physics", True), ("physics_no_fusion", False)):
        config = SegmentConfig(method="physics", fusion=fusion)
        whole = Segmenter.load(config=config, device="cpu")(case.ct, case.lungs, probabilities=True)
        np.testing.assert_array_equal(answers[key].label_map.array, whole.label_map.array)
        np.testing.assert_array_equal(answers[key].posterior, whole.posterior)
    baseline = BASELINES["hu_bands_median"](case.ct, case.lungs)
    np.testing.assert_array_equal(answers["hu_bands_median"].label_map.array, baseline.array)
    assert answers["hu_bands_median"].posterior is None


def test_a_tissue_model_of_other_descriptors_is_left_out_with_the_reason() -> None:
    """Its classifier could not even be asked; one with as many as there are takes part."""

    def bundle(columns: int) -> Bundle:
        projection = Projection(torch.zeros(columns), torch.ones(columns), torch.eye(columns))
        tissue = SimpleNamespace(projection=projection)
        return cast(Bundle, SimpleNamespace(path=Path("own.safetensors"), tissues={"seeded": tissue}, classes=None))

    count = len(SHAPED_NAMES)
    assert "seeded" in {e.key for e in choose(None, bundle(count))[0]}
    chosen, notes = choose(None, bundle(count - 3))
    assert "seeded" not in {e.key for e in chosen}
    assert any(f"fitted on {count - 3} descriptors, and there are {count}" in note for note in notes)
