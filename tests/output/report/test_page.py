"""report.html: one file, complete, small, and closed to whatever names and headers hold."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diffseglung.labels import TISSUES
from diffseglung.output import write
from diffseglung.output.report import page
from diffseglung.output.report.page import LIMIT_BYTES, report
from diffseglung.output.selfcontained import source_of
from diffseglung.segmentation import Segmentation
from diffseglung.volume import Volume

HOSTILE = '<img src=x onerror="alert(1)"></script><b>\u2028\u202e&amp;'


def test_the_file_refers_to_nothing_outside(chest: Segmentation) -> None:
    text = report(chest)
    assert not re.search(r"https?://", text)
    assert not re.search(r'<link|<iframe|@import|\bsrc="(?!data:)', text)


def test_numbers_are_those_of_the_statistics(chest: Segmentation) -> None:
    text = report(chest)
    for label in TISSUES:
        row = re.search(rf'<th scope="row">(?:(?!</tr>).)*{label.title}(?:(?!</tr>).)*</tr>', text, re.DOTALL)
        assert row
        entry = chest.statistics[label.name]
        assert f"{100 * entry['fraction_of_lung']:.1f} %" in row[0]
        assert f"{entry['volume_ml']:,.0f} mL" in row[0]
        for side in ("right", "left"):
            assert f"{100 * entry[side]['fraction_of_lung']:.1f} %" in row[0]


def test_the_lung_score_is_told_where_it_is_known(chest: Segmentation) -> None:
    assert "Lung score" not in report(chest)
    assert "Lung score 0.42:" in report(replace(chest, run=chest.run | {"lung_quality": {"score": 0.42}}))


def test_what_is_unknown_is_a_dash(chest: Segmentation) -> None:
    before = report(chest).count(page.UNKNOWN)
    chest.statistics["ggo"]["mean_hu"] = None
    chest.statistics["lung"]["LAA-950"] = None
    assert report(chest).count(page.UNKNOWN) == before + 2


@pytest.mark.parametrize("place", ["input", "warnings", "settings", "model"])
def test_hostile_text_stays_text(chest: Segmentation, place: str) -> None:
    run = {**chest.run, "input": HOSTILE} if place == "input" else dict(chest.run)
    if place == "warnings":
        run["warnings"] = [HOSTILE]
    elif place == "settings":
        run["settings"] = {"method": HOSTILE, HOSTILE: HOSTILE}
    elif place == "model":
        run["model"] = {"name": HOSTILE, "sha256": HOSTILE}
    text = report(replace(chest, run=run))
    assert "<img" not in text
    assert text.count("</script>") == 2


def test_the_policy_names_the_script_and_style_it_carries(chest: Segmentation) -> None:
    text = report(chest)
    script = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    style = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert len(script) == len(style) == 1
    assert f"script-src {source_of(script[0])}" in text
    assert f"style-src {source_of(style[0])}" in text
    assert "default-src 'none'" in text


def test_no_element_has_a_style_of_its_own(chest: Segmentation) -> None:
    assert not re.search(r'<[a-z]+[^>]*\sstyle="', report(chest))


def test_a_scan_of_three_hundred_noisy_slices_stays_below_the_limit() -> None:
    """Noise of 60 HU in each voxel: worse to compress than a scan."""
    hu = np.random.default_rng(0).normal(-850, 60, (300, 256, 320)).astype(np.float32)
    lungs = np.zeros(hu.shape, np.uint8)
    lungs[:, 20:236, 20:150], lungs[:, 20:236, 170:300] = 1, 2
    labels = (lungs > 0).astype(np.uint8)
    labels[100:200, 60:120, 60:120] = 3
    ct = Volume(hu, np.diag([1.0, 1.0, 1.0, 1.0])[:, [2, 1, 0, 3]])
    entry = {"volume_ml": 1.0, "fraction_of_lung": 0.1, "mean_hu": -850.0}
    whole = {**entry, "right": entry, "left": entry}
    density = {"mean_lung_density_hu": -850.0, "HAA": 0.1, "percentiles_hu": {"15": -900.0}}
    density |= {f"LAA{limit}": 0.1 for limit in (-950, -910, -856)}
    part = {**entry, **density}
    statistics = {t.name: whole for t in TISSUES} | {"lesions": whole, "lung": {**part, "right": part, "left": part}}
    text = report(Segmentation(ct, ct.with_array(lungs), ct.with_array(labels), statistics))
    assert len(text.encode()) <= LIMIT_BYTES
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])  # type: ignore[index]
    assert len(data["stacks"][0]["ct"]) == 300


def test_it_is_written_beside_the_label_map(chest: Segmentation, tmp_path: Path) -> None:
    write(chest, tmp_path / "out")
    assert (tmp_path / "out" / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
