"""A small benchmark for tests: reduced phantoms as case folders, and results that were never computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from diffseglung.phantom.folder import write_case_folder
from diffseglung.volume import Volume
from studies import scores
from studies.runner import pack
from tests.toy_models import small_phantom


def write_cases(folder: Path, seeds: tuple[int, ...] = (3, 4)) -> Path:
    for seed in seeds:
        write_case_folder(small_phantom(seed), folder / f"case{seed}")
    return folder


def made_up(guess: np.ndarray, truth: np.ndarray, *, sure: float | None = 0.8) -> dict[str, Any]:
    """A result as the runner writes it, without surfaces."""
    grid = np.eye(4)[[2, 1, 0, 3]]
    scored = scores.score_case(Volume(guess, grid), Volume(truth, grid), surfaces=False)
    calibration = None
    if sure is not None:
        posterior = np.full((truth.size, 5), (1 - sure) / 4)
        posterior[np.arange(truth.size), guess.ravel() - 1] = sure
        calibration = scores.reliability(posterior, truth.ravel())
    return {"key": {"sources": "s"}, "scores": scored, "calibration": calibration, "slice": pack(guess[0])}


def made_up_case(
    truth: np.ndarray, name: str, *, kind: str = "phantom", models: tuple[str, ...] = ()
) -> dict[str, Any]:
    """A case.json."""
    strata = {"kind": kind, "condition": "standard", "severity": "moderate", "novelty": "seen"}
    hu = np.full(truth[0].shape, -860, np.int16)
    shown = {"index": 0, "ct": pack(hu), "truth": pack(truth[0])}
    return {"name": name, "strata": strata, "models": list(models), "slice": shown, "pixel_mm": [1.0, 1.0]}


def tissue(seed: int) -> np.ndarray:
    """(4, 20, 20) uint8, every class in it."""
    labels = np.random.default_rng(seed).integers(1, 6, (4, 20, 20))
    return labels.astype(np.uint8)
