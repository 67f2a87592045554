"""The page stands alone and shows what it says."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from studies import page
from tests.studies.benchmarked import made_up, made_up_case, tissue


@pytest.fixture
def text() -> str:
    truth, healthy = tissue(0), np.ones((4, 20, 20), np.uint8)
    cases = [made_up_case(truth, "first & <second>"), made_up_case(healthy, "healthy")]
    found = {"physics": [made_up(truth, truth), made_up(healthy, healthy)]}
    return page.write(cases, found, ["physics"], "Pictures")


def test_the_page_needs_nothing_else(text: str) -> None:
    assert "http" not in text
    assert not re.search(r"<script|<link|url\(", text)
    assert all(source.startswith("data:image/jpeg;base64,") for source in re.findall(r'src="([^"]*)"', text))
    assert "first &amp; &lt;second&gt;" in text


def test_every_case_has_ct_truth_and_answers_as_pictures(text: str) -> None:
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]*)"', text)
    assert len(pictures) == 2 * 3
    sizes = {Image.open(io.BytesIO(base64.b64decode(p))).size for p in pictures}
    assert sizes == {(page.WIDTH, page.WIDTH)}
    assert pictures[1] == pictures[2], "a perfect answer looks like the truth"
    assert pictures[0] != pictures[1]


def test_captions_tell_dice_or_false_lesions(text: str) -> None:
    assert "healthy 100, emphysema 100, ggo 100, fibrosis 100, consolidation 100" in text
    assert "called lesion: 0.0 %" in text
