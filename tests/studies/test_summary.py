"""Figures follow from the results by their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from studies import scores, summary
from studies.tables import index
from tests.studies.benchmarked import made_up, made_up_case, tissue

TRUTHS = [tissue(0), tissue(1), np.ones((4, 20, 20), np.uint8)]
CASES = [
    made_up_case(TRUTHS[0], "a", models=("ggo_nodular", "fibrosis_honeycomb")),
    made_up_case(TRUTHS[1], "b", models=("ggo_nodular", "ggo_geographic")),
    made_up_case(TRUTHS[2], "c", kind="real"),
]


def half_right(truth: np.ndarray, seed: int) -> np.ndarray:
    return np.where(np.random.default_rng(seed).random(truth.shape) < 0.5, truth, 3).astype(np.uint8)


FOUND = {
    "combined": [made_up(t, t) for t in TRUTHS],
    "seeded": [made_up(half_right(t, i), t) for i, t in enumerate(TRUTHS)],
    "hu_bands_median": [made_up(np.full_like(t, 3), t, sure=None) for t in TRUTHS],
}
FIGURES = index([*summary.figures(CASES, FOUND), *summary.by_model(CASES, FOUND), *summary.differences(CASES, FOUND)])


@pytest.mark.parametrize("key", FOUND)
def test_overall_figures_are_those_of_the_pool(key: str) -> None:
    pooled = scores.pool([result["scores"] for result in FOUND[key]])
    assert FIGURES[key, "all", "all", "dice_mean"].value == pytest.approx(pooled["mean_dice_pooled"])
    assert FIGURES[key, "all", "ggo", "dice_pooled"].value == pytest.approx(pooled["classes"]["ggo"]["dice_pooled"])
    row = pooled["classes"]["healthy"]
    assert FIGURES[key, "all", "healthy", "error_ml_bias"].value == pytest.approx(row["error_ml_mean"])
    assert FIGURES[key, "all", "healthy", "error_ml_low"].value == pytest.approx(row["error_ml_limits"][0])


def test_a_perfect_answer_is_perfect() -> None:
    assert FIGURES["combined", "all", "all", "dice_mean"].value == 1
    assert FIGURES["combined", "all", "all", "false_lesion_real"].value == 0
    assert FIGURES["combined", "all", "all", "ece"].value == pytest.approx(0.2)


def test_false_lesions_of_phantoms_and_of_real_scans_are_apart() -> None:
    assert FIGURES["hu_bands_median", "all", "all", "false_lesion_real"].value == 1
    assert np.isnan(FIGURES["hu_bands_median", "all", "all", "false_lesion_phantom"].value)


def test_without_a_posterior_there_is_no_calibration() -> None:
    assert np.isnan(FIGURES["hu_bands_median", "all", "all", "ece"].value)


def test_a_class_that_is_not_there_has_no_dice() -> None:
    assert np.isnan(FIGURES["seeded", "kind=real", "ggo", "dice_pooled"].value)
    assert FIGURES["seeded", "kind=phantom", "ggo", "dice_pooled"].cases == 2
    assert "condition=standard" not in {stratum for _, stratum, _, _ in FIGURES}


def test_differences_are_those_of_the_means() -> None:
    mean = {key: FIGURES[key, "all", "all", "dice_mean"].value for key in FOUND}
    for reference in ("hu_bands_median", "seeded"):
        gain = FIGURES["combined", "all", "all", f"minus:{reference}"]
        assert gain.value == pytest.approx(mean["combined"] - mean[reference])
        assert 0 < gain.low <= gain.high
    assert ("seeded", "all", "all", "minus:combined") not in FIGURES
    assert ("hu_bands_median", "all", "all", "minus:hu_bands_median") not in FIGURES


def test_recall_by_model_takes_the_cases_with_that_model_alone() -> None:
    found = {stratum: e for (m, stratum, _, metric), e in FIGURES.items() if m == "seeded" and stratum[:6] == "model="}
    assert set(found) == {"model=ggo_nodular", "model=fibrosis_honeycomb"}
    assert found["model=ggo_nodular"].cases == 1
    row = FOUND["seeded"][0]["scores"]["classes"]["fibrosis"]
    assert found["model=fibrosis_honeycomb"].value == pytest.approx(row["both_voxels"] / row["true_voxels"])
