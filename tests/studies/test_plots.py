"""Plots draw what they are given."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from studies import plots, summary
from studies.tables import index
from tests.studies.benchmarked import made_up, made_up_case, tissue

TRUTHS = [tissue(0), tissue(1)]
CASES = [made_up_case(truth, str(i)) for i, truth in enumerate(TRUTHS)]


def is_picture(data: bytes | None) -> bool:
    assert data is not None
    image = Image.open(io.BytesIO(data))
    return image.format == "PNG" and np.asarray(image.convert("L")).std() > 5


def test_each_plot_is_a_picture() -> None:
    found = {"physics": [made_up(t, t) for t in TRUTHS], "fixed_mixture": [made_up(t, t, sure=None) for t in TRUTHS]}
    figures = index(summary.figures(CASES, found))
    assert is_picture(plots.dice(figures, list(found)))
    assert is_picture(plots.reliability(found))
    assert is_picture(plots.agreement(found["physics"], figures, "physics"))


def test_without_probabilities_there_is_no_reliability() -> None:
    assert plots.reliability({"fixed_mixture": [made_up(t, t, sure=None) for t in TRUTHS]}) is None
