"""The report in a browser: what is shown follows the controls, by mouse, keyboard and on a phone."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffseglung.labels import CONSOLIDATION
from diffseglung.output import write
from diffseglung.segmentation import Segmentation
from tests.browser import Browse


@pytest.fixture
def path(chest: Segmentation, tmp_path: Path) -> Path:
    sure = np.where(chest.lungs.array > 0, 255, 0).astype(np.uint8)
    sure[chest.label_map.array == 4] = 120
    write(replace(chest, certainty=sure), tmp_path / "out")
    return tmp_path / "out" / "report.html"


def settled(page: Any) -> None:
    """Wait until the last wish is drawn."""
    page.wait_for_function("() => document.getElementById('view').dataset.drawn > 0")
    page.wait_for_timeout(120)


def canvas(page: Any) -> np.ndarray:
    settled(page)
    png = page.evaluate("document.getElementById('view').toDataURL('image/png')").partition(",")[2]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB"))


def where(page: Any) -> str:
    return str(page.inner_text("#where"))


def near(pixels: np.ndarray, colour: tuple[int, int, int]) -> int:
    """Pixels tinted by a colour rather than grey."""
    tint = np.array(colour, float) - np.mean(colour)
    shade = pixels.astype(float) - pixels.mean(-1, keepdims=True)
    return int(((shade @ tint) > 0.8 * np.linalg.norm(tint) * np.maximum(np.linalg.norm(shade, axis=-1), 12)).sum())


def test_it_opens_at_the_slice_with_most_disease_and_scrolls(browse: Browse, path: Path) -> None:
    page = browse(path)
    first, text = canvas(page), where(page)
    assert "mL" in text
    for press, step in (("ArrowDown", -1), ("ArrowUp", 1)):
        before = int(where(page).split()[1])
        page.keyboard.press(press)
        settled(page)
        assert int(where(page).split()[1]) == before + step
    page.keyboard.press("Home")
    assert not np.array_equal(canvas(page), first)
    page.locator("#slice").fill("3")
    page.mouse.move(*middle(page))
    page.mouse.wheel(0, 100)
    settled(page)
    assert page.input_value("#slice") == "4"


def middle(page: Any) -> tuple[float, float]:
    box = page.locator("#view").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_classes_are_switched_by_box_and_key(browse: Browse, path: Path) -> None:
    page = browse(path)
    go_to(page, "Consolidation")
    shown = near(canvas(page), CONSOLIDATION.colour)
    assert shown > 50
    page.keyboard.press("5")
    assert near(canvas(page), CONSOLIDATION.colour) == 0
    page.locator('input[data-class="5"]').check()
    assert near(canvas(page), CONSOLIDATION.colour) == shown


def go_to(page: Any, title: str) -> None:
    """The first slice from the head whose line names a class."""
    page.keyboard.press("Home")
    for _ in range(60):
        if title in where(page):
            return
        page.keyboard.press("ArrowDown")
        settled(page)
    raise AssertionError(f"no slice shows {title}")


def test_opacity_nought_is_the_ct_alone(browse: Browse, path: Path) -> None:
    page = browse(path)
    page.locator("#opacity").fill("0")
    pixels = canvas(page)
    assert (np.ptp(pixels, axis=-1) == 0).all()
    page.keyboard.press("o")
    assert (np.ptp(canvas(page), axis=-1) > 0).any()


def test_windows_change_the_grey_and_say_which_is_on(browse: Browse, path: Path) -> None:
    page = browse(path)
    page.locator("#opacity").fill("0")
    lung = canvas(page)
    page.get_by_role("button", name="mediastinum").click()
    soft = canvas(page)
    assert soft.mean() != lung.mean()
    assert page.get_attribute('[data-window="mediastinum"]', "aria-pressed") == "true"
    assert page.get_attribute('[data-window="lung"]', "aria-pressed") == "false"
    assert soft.min() == 0  # lung is black there


def test_uncertainty_shows_where_the_best_class_is_weak(browse: Browse, path: Path) -> None:
    page = browse(path)
    go_to(page, "Fibrosis")
    page.keyboard.press("u")
    doubtful = canvas(page).astype(int)
    coloured = (doubtful[..., 0] - doubtful[..., 2]) > 40
    assert 0.001 < coloured.mean() < 0.2


def test_planes_and_letters(browse: Browse, path: Path) -> None:
    page = browse(path)
    assert [page.inner_text(f"#side-{side}") for side in ("left", "right", "top", "bottom")] == ["R", "L", "A", "P"]
    axial = canvas(page)
    page.get_by_role("button", name="coronal").click()
    assert where(page).startswith("coronal")
    assert [page.inner_text(f"#side-{side}") for side in ("left", "right", "top", "bottom")] == ["R", "L", "S", "I"]
    assert canvas(page).shape != axial.shape or not np.array_equal(canvas(page), axial)


def test_the_profile_jumps_to_its_slice(browse: Browse, path: Path) -> None:
    page = browse(path)
    box = page.locator("#profile").bounding_box()
    page.locator("#profile").click(position={"x": 5, "y": box["height"] - 3})
    settled(page)
    low = int(where(page).split()[1])
    page.locator("#profile").click(position={"x": 5, "y": 3})
    settled(page)
    assert int(where(page).split()[1]) > low


def test_it_fits_a_phone_and_a_swipe_scrolls(browse: Browse, path: Path) -> None:
    page = browse(path, width=390, height=844, has_touch=True, is_mobile=True)
    settled(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    before = where(page)
    x, y = middle(page)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, y + 40, steps=4)
    page.mouse.up()
    settled(page)
    assert where(page) != before
    assert page.locator("#view").bounding_box()["width"] > 250


def test_copy_puts_the_paragraph_on_the_clipboard(browse: Browse, path: Path) -> None:
    page = browse(path)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator('[data-copy="methods"]').click()
    page.get_by_role("button", name="copied").wait_for()
    assert page.evaluate("getSelection().toString()").startswith("Lung tissue was labelled")


def test_print_leaves_the_controls_out(browse: Browse, path: Path) -> None:
    page = browse(path)
    page.emulate_media(media="print")
    assert not page.locator(".controls").is_visible()
    assert page.locator(".shares").is_visible()
    assert page.locator("#view").is_visible()
    assert len(page.pdf()) > 10_000
