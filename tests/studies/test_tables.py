"""Tables lose nothing and hide nothing."""

from __future__ import annotations

import csv
import io
import math

import numpy as np

from studies.bootstrap import Estimate
from studies.compared_methods import all_candidates
from studies.summary import Row
from studies.tables import LABELS, cell, csv_text, markdown, title_of

NAN = math.nan
ROWS = [
    Row("physics", "all", "all", "dice_mean", Estimate(0.5, 0.4, 0.625, 7)),
    Row("physics", "all", "ggo", "dice_pooled", Estimate(0.25, NAN, NAN, 1)),
    Row("physics", "kind=real", "all", "dice_mean", Estimate(NAN, NAN, NAN, 2)),
    Row("newcomer", "all", "all", "dice_mean", Estimate(0.125, 0.1, 0.2, 7)),
    Row("newcomer", "all", "all", "minus:physics", Estimate(-0.375, -0.4, -0.3, 7)),
    Row("newcomer", "model=ggo_nodular", "ggo", "recall", Estimate(1.0, NAN, NAN, 1)),
]


def test_csv_holds_every_figure_and_leaves_unknown_ones_empty() -> None:
    lines = list(csv.DictReader(io.StringIO(csv_text(ROWS))))
    for line, row in zip(lines, ROWS, strict=True):
        assert [line[name] for name in ("method", "stratum", "class", "metric")] == [
            *(row.method, row.stratum, row.tissue, row.metric)
        ]
        found = [float(line[name]) if line[name] else NAN for name in ("value", "low", "high")]
        np.testing.assert_array_equal(found, [row.estimate.value, row.estimate.low, row.estimate.high])
        assert int(line["cases"]) == row.estimate.cases


def test_cells() -> None:
    assert cell(ROWS[0].estimate, scale=100) == "50.0 [40.0, 62.5]"
    assert cell(ROWS[1].estimate, scale=100) == "25.0"
    assert cell(ROWS[4].estimate, scale=100, sign="+") == "-37.5 [-40.0, -30.0]"
    assert cell(ROWS[2].estimate) == cell(None) == "-"


def test_markdown_has_every_part_and_even_rows() -> None:
    text = markdown(ROWS, {"seed": 0, "commit": None})
    for part in ("- commit: unknown", "50.0 [40.0, 62.5]", "## By kind", "ggo_nodular (1)", "-37.5 [-40.0, -30.0]"):
        assert part in text
    for block in text.split("\n\n"):
        widths = {line.count("|") for line in block.splitlines() if line.startswith("|")}
        assert len(widths) <= 1


def test_every_entrant_has_words_of_its_own() -> None:
    keys = all_candidates(base=True).keys()
    assert len(set(LABELS.values())) == len(LABELS)
    assert len({title_of(key) for key in keys}) == len(keys)
    assert title_of("newcomer") == "newcomer"
