"""The page says what follows from its figures, and nothing where there are none."""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np
from matplotlib.image import imread

from diffseglung.platform.config import IntensityConfig
from studies.generation_page import CHAIN, csv_text, findings, markdown, picture, slug


def row(sampler: str | None, calls: int | None, distance: float, ratio: float | None = None) -> dict[str, Any]:
    def figure(value: float | None) -> dict[str, Any]:
        spread = None if value is None else 0.1 * value
        low, high = (None, None) if value is None or spread is None else (value - spread, value + spread)
        return {"value": value, "low": low, "high": high, "cases": 4}

    figures = {"frechet training": figure(distance), "precision": figure(None), "voxels_hu ratio": figure(ratio)}
    name = "stage 1" if sampler else "held-out"
    seconds = 0.5 if sampler else None
    return {
        "set": name,
        "sampler": sampler,
        "calls": calls,
        "seconds": seconds,
        "patches": 4,
        "cubes": 13,
        "figures": figures,
    }


def record(*rows: dict[str, Any], training: int | None = 50) -> dict[str, Any]:
    about = {
        "models": {"stage 1": {"file": "a.pt", "sha256": "0" * 64}}, "held-out scans": ["x"],
        "reference patches": {"training": 9}, "reference cubes": {"training": 30}, "primary reference": "training",
        "training patches": training, "feature network": "random", "device": "cpu", "precision": "fp32",
        "settings": {"n": 4, "seed": 0, "resamples": 20},
    }  # fmt: skip
    return {"about": about, "rows": list(rows), "repairs": []}


def test_the_fewest_calls_are_those_within_the_interval_of_the_chain() -> None:
    rows = [row("A 10", 10, 30.0), row("B 20", 20, 10.9), row("C 50", 50, 8.0), row(CHAIN, 1000, 10.0)]
    (line,) = findings(record(row(None, None, 5.0), *rows))
    assert "are 20 (B 20), 50 times fewer" in line
    (line,) = findings(record(rows[0], rows[3]))
    assert f"are 1000 ({CHAIN}), 1 times fewer" in line
    assert findings(record(*rows[:3])) == []


def test_only_ratios_below_one_warn() -> None:
    lines = findings(record(row("A 10", 10, 3.0, ratio=0.84), row("B 20", 20, 3.0, ratio=1.2)))
    assert len(lines) == 1
    assert "A 10 0.84" in lines[0]
    assert "B 20" not in lines[0]


def test_unknown_figures_are_dashes_and_empty_cells() -> None:
    known = record(row(None, None, 5.0), row("A 10", 10, 30.0, ratio=2.0))
    text = markdown(known)
    assert "| held-out (real) | 4 / 13 | - | - | - | 5.0 [4.5, 5.5] | - |" in text
    assert "| stage 1, A 10 | - | 2.00 [1.80, 2.20] | - | - |" in text
    assert "Unknown: the training patches" in markdown(record(row("A 10", 10, 3.0), training=None))
    lines = list(csv.DictReader(io.StringIO(csv_text(known))))
    assert [r["value"] for r in lines if r["metric"] == "precision"] == ["", ""]
    assert "None" not in text


def test_the_picture_has_a_line_for_each_set() -> None:
    dark, bright = np.full((3, 4, 8, 8), -1.0, np.float32), np.full((3, 4, 8, 8), 1.0, np.float32)
    image = imread(io.BytesIO(picture({"dark": dark, "bright": bright}, IntensityConfig())), format="png")[..., 0]
    column = image[:, int(0.4 * image.shape[1])]
    assert 0 < column[len(column) // 4] < 0.3 < column[3 * len(column) // 4] == 1
    assert (image[:, : image.shape[1] // 4] < 0.5).any()  # titles


def test_names_of_files_are_plain() -> None:
    assert slug("stage 1", "DPM-Solver++ 10, log-SNR") == "stage-1-dpm-solver-10-log-snr"
    assert slug("held-out", None) == "held-out"
