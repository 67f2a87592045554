"""The page of `diffseglung view` in a browser: what it shows is what the files hold."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from diffseglung import output
from diffseglung.io.nifti import write_nifti
from diffseglung.labels import BY_NAME, TISSUES
from diffseglung.segmentation import Segmentation
from diffseglung.viewer.contents import gather
from diffseglung.viewer.server import ViewServer
from tests.browser import Browse, Complaints

Show = Callable[..., Any]
MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"
SIZE = {"width": 880, "height": 520}


@pytest.fixture
def varied(chest: Segmentation) -> Segmentation:
    """The chest with a density of its own in every voxel, so that a neighbour's cannot be taken for it."""
    order = np.random.default_rng(0).permutation(chest.ct.array.size).reshape(chest.ct.shape)
    ct = chest.ct.with_array((order % 1500 - 1000).astype(np.float32))
    return replace(chest, ct=ct)


@pytest.fixture
def nameless(chest: Segmentation) -> Segmentation:
    """The chest without a single number, under a name and with a warning that look like markup."""
    names = {
        "input": "<img src=x onerror=alert(1)><b>bold</b>.nii.gz",
        "warnings": ["<i>thick</i> & <script>1</script>"],
    }
    return replace(chest, statistics={name: None for name in chest.statistics}, run=chest.run | names)


@dataclass
class Desk:
    """Pages that stay open for the tests of this module: a page takes seconds to load where there is no GPU."""

    browser: Any
    stack: ExitStack
    pages: dict[str, Any] = field(default_factory=dict)
    complaints: Complaints = field(default_factory=Complaints)

    def serve(self, folder: Path, segmentation: Segmentation, ct: bool, labels: bool) -> str:
        output.write(segmentation, folder / "out", output.Products(preview=False, report=False))
        write_nifti(folder / "ct.nii.gz", segmentation.ct)
        scan = folder / "ct.nii.gz"
        contents = gather(folder / "out", scan if ct else None) if labels else gather(scan)
        server = self.stack.enter_context(ViewServer(contents))
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self.stack.callback(server.shutdown)
        return server.address

    def load(self, address: str, options: dict[str, Any]) -> Any:
        page = self.browser.new_context(viewport=SIZE | options.pop("viewport", {}), **options).new_page()
        self.stack.callback(page.context.close)
        self.complaints.watch(page)
        page.goto(address)
        page.wait_for_selector("body:not([data-state=loading])", timeout=60_000)
        assert page.locator("body").get_attribute("data-state") == "ready", page.inner_text("#message")
        return page


@pytest.fixture(scope="module")
def desk(chromium: Any) -> Iterator[Desk]:
    with ExitStack() as stack:
        yield Desk(chromium, stack)


@pytest.fixture
def show(desk: Desk, tmp_path: Path) -> Iterator[Show]:
    """`show(segmentation, name, ct=True, labels=True, **options of a context)` -> a page that has drawn its volumes.

    A page of the same name is taken again, on its first layout and with its crosshair where it started.
    """

    def open_view(
        segmentation: Segmentation, name: str, *, ct: bool = True, labels: bool = True, **options: Any
    ) -> Any:
        if name not in desk.pages:
            desk.pages[name] = desk.load(desk.serve(tmp_path, segmentation, ct, labels), options)
        page = desk.pages[name]
        page.select_option("#layout", index=0)
        page.click("#reset")
        return page

    yield open_view
    assert desk.complaints.texts == []


def eventually(page: Any, holds: Callable[[], bool]) -> bool:
    """Whether something comes true within some seconds: pictures follow when they are drawn."""
    return any(holds() or page.wait_for_timeout(50) for _ in range(100))


def picture(page: Any, place: str = "#flat") -> NDArray[np.uint8]:
    """Pixels of a part of the page, (rows, columns, 3)."""
    return np.asarray(Image.open(io.BytesIO(page.locator(place).screenshot())).convert("RGB"))


def count(pixels: NDArray[np.uint8], colour: tuple[int, int, int], tolerance: int = 2) -> int:
    return int((np.abs(pixels.astype(int) - colour).max(-1) <= tolerance).sum())


def readout(page: Any) -> tuple[tuple[int, int, int], int, str, list[tuple[str, float]]]:
    """Voxel (z, y, x), HU, class, and (letter, mm) of the three directions."""
    x, y, z = (int(part.split()[-1]) for part in page.inner_text("#voxel").split(","))
    hu = int(page.inner_text("#density").removesuffix(" HU").replace(MINUS, "-"))
    words = page.inner_text("#position").split()[:6]
    places = [(letter, float(mm)) for letter, mm in zip(words[::2], words[1::2], strict=True)]
    return (z, y, x), hu, page.inner_text("#class"), places


def test_the_crosshair_reads_the_voxel_s_own_density_and_class_on_an_oblique_flipped_grid(
    show: Show, varied: Segmentation
) -> None:
    page, seen = show(varied, "varied"), set()
    page.select_option("#layout", "axial")
    titles = {label.id: label.title for label in TISSUES} | {0: "No class"}
    walk = ("PageUp", "ArrowRight", "ArrowUp", "PageDown", "ArrowLeft", "ArrowDown") * 4
    for number in range(1, 6):
        page.click(f"#legend tbody tr:nth-child({number}) .go")
        for key in ("Shift", *walk[number - 1 :: 5]):  # the first moves nothing
            page.keyboard.press(key)
            voxel, hu, title, places = readout(page)
            assert hu == varied.ct.array[voxel]
            assert title == titles[int(varied.label_map.array[voxel])]
            x, y, z = varied.ct.affine[:3] @ [*voxel, 1.0]  # LPS
            expected = [
                ("L" if x > 0 else "R", abs(x)),
                ("P" if y > 0 else "A", abs(y)),
                ("S" if z > 0 else "I", abs(z)),
            ]
            assert [letter for letter, _ in places] == [letter for letter, _ in expected]
            np.testing.assert_allclose([mm for _, mm in places], [mm for _, mm in expected], atol=0.06)
            seen.add(voxel)
    assert len(seen) >= 20
    assert len({varied.label_map.array[voxel] for voxel in seen}) >= 5


def test_keys_move_one_voxel_towards_the_side_they_name(show: Show, varied: Segmentation) -> None:
    page = show(varied, "varied")
    moves = {"ArrowRight": (0, 1), "ArrowLeft": (0, -1), "ArrowDown": (1, 1), "ArrowUp": (1, -1), "PageUp": (2, 1)}
    for key, (patient_axis, sign) in moves.items():
        before = np.array(readout(page)[0])
        page.keyboard.press(key)
        step = np.array(readout(page)[0]) - before
        assert np.abs(step).sum() == 1
        assert sign * (varied.ct.affine[:3, :3] @ step)[patient_axis] > 0


def test_the_crosshair_stays_inside(show: Show, varied: Segmentation) -> None:
    page = show(varied, "varied")
    page.evaluate(
        "for (const key of ['PageUp', 'ArrowRight', 'ArrowUp']) for (let n = 0; n < 60; n++)"
        " document.body.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }))"
    )
    voxel, hu, _, _ = readout(page)
    assert voxel == (39, 0, 0)  # the grid's x runs to the patient's right
    assert hu == varied.ct.array[voxel]


def test_legend_and_density_repeat_statistics_json(show: Show, varied: Segmentation) -> None:
    page = show(varied, "varied")
    rows = page.locator("#legend tbody tr")
    assert rows.count() == len(TISSUES)
    for row, label in zip(rows.all(), TISSUES, strict=True):
        record = varied.statistics[label.name]
        cells = row.locator("td")
        assert cells.nth(0).inner_text().split("\n")[0].strip() == label.title
        for number, entry in enumerate((record, record["right"], record["left"]), 1):
            share = f"{100 * entry['fraction_of_lung']:,.1f} %"
            assert cells.nth(number).inner_text().split("\n") == [share, f"{entry['volume_ml']:,.1f} mL"]
        red, green, blue = label.colour
        colour = row.locator(".swatch").evaluate("e => getComputedStyle(e).backgroundColor")
        assert colour == f"rgb({red}, {green}, {blue})"
    lung = varied.statistics["lung"]
    litres = page.locator("#lung tr:nth-child(1) td").all_inner_texts()
    assert litres[1:] == [f"{part['volume_ml'] / 1000:.2f} L" for part in (lung, lung["right"], lung["left"])]
    assert page.locator("#warnings li").all_inner_texts() == ["thick slices"]
    assert page.inner_text("#title") == "chest.nii.gz"
    assert "Not a medical device" in page.inner_text("header")


def test_a_class_goes_and_comes_with_its_key_and_its_button(show: Show, nameless: Segmentation) -> None:
    page = show(nameless, "labels", ct=False)
    page.select_option("#layout", "axial")
    colour = BY_NAME["emphysema"].colour
    page.click("#legend tbody tr:nth-child(2) .go")
    assert eventually(page, lambda: count(picture(page), colour) > 200)
    before = picture(page)
    page.keyboard.press("2")
    assert eventually(page, lambda: count(picture(page), colour) == 0)
    assert page.locator(".toggle[data-id='2']").get_attribute("aria-pressed") == "false"
    page.click(".toggle[data-id='2']")
    assert eventually(page, lambda: bool((picture(page) == before).all()))


def test_every_class_has_its_own_colour_and_a_click_on_it_names_it(show: Show, nameless: Segmentation) -> None:
    page = show(nameless, "labels", ct=False)
    page.select_option("#layout", "axial")
    for number, label in enumerate(TISSUES, 1):
        page.click(f"#legend tbody tr:nth-child({number}) .go")
        assert eventually(page, lambda colour=label.colour: count(picture(page), colour) > 200), label.name
        rows, columns = np.nonzero(np.abs(picture(page).astype(int) - label.colour).max(-1) <= 2)
        box = page.locator("#flat").bounding_box()
        page.mouse.click(box["x"] + int(columns[len(columns) // 3]), box["y"] + int(rows[len(rows) // 3]))
        assert page.inner_text("#class") == label.title
        voxel = tuple(int(part.split()[-1]) for part in page.inner_text("#voxel").split(","))[::-1]
        assert nameless.label_map.array[voxel] == label.id


def test_the_patient_s_right_is_on_the_left_and_the_front_on_top(show: Show, nameless: Segmentation) -> None:
    """Emphysema lies in front of the middle; the patient's left lung, where the grid's x is low, holds twice as much.

    The crosshair hides a part of it.
    """
    page = show(nameless, "labels", ct=False)
    page.select_option("#layout", "axial")
    page.click("#legend tbody tr:nth-child(2) .go")
    colour = BY_NAME["emphysema"].colour
    assert eventually(page, lambda: count(picture(page), colour) > 200)
    pixels = picture(page)
    rows, columns = np.nonzero(np.abs(pixels.astype(int) - colour).max(-1) <= 2)
    assert 0.55 < (columns > pixels.shape[1] / 2).mean() < 0.85
    assert rows.mean() < pixels.shape[0] / 2


def test_window_layout_and_opacity_change_the_picture(show: Show, varied: Segmentation) -> None:
    page = show(varied, "varied")

    def changes(key: str) -> bool:
        before = picture(page, "#flat")
        page.keyboard.press(key)
        return eventually(page, lambda: bool((picture(page, "#flat") != before).any()))

    for key, control, value in (("w", "#window", "mediastinum"), ("l", "#layout", "axial")):
        assert changes(key)
        assert value in page.locator(f"{control} option:checked").inner_text()
    assert changes("o")
    assert page.input_value("#opacity") == "0"

    def is_grey() -> bool:
        pixels = picture(page).astype(int)[60:-60, 60:-60]
        cross = (pixels[..., 0] - pixels[..., 2]) > 60  # the crosshair alone is coloured
        return bool(cross.mean() < 0.02) and bool((np.ptp(pixels, axis=-1) < 3)[~cross].mean() > 0.98)

    assert eventually(page, is_grey)
    assert changes("o")
    assert page.input_value("#opacity") == "45"
    assert changes("+")
    assert page.inner_text("#opacity-value") == "50 %"


def test_help_opens_and_closes_and_holds_the_keys(show: Show, varied: Segmentation) -> None:
    page = show(varied, "varied")
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    before = readout(page)
    page.keyboard.press("PageUp")
    assert readout(page) == before
    page.keyboard.press("Escape")
    assert not page.locator("#help").is_visible()
    page.keyboard.press("PageUp")
    assert readout(page) != before


def test_the_disease_is_drawn_in_space(show: Show, varied: Segmentation) -> None:
    page = show(varied, "varied")

    def bright() -> float:
        return float((picture(page, "#solid").max(-1) > 60).mean())

    assert eventually(page, lambda: bright() > 0.02)
    whole = bright()
    for key in "2345":
        page.keyboard.press(key)
    assert eventually(page, lambda: bright() < whole / 2)
    for key in "2345":
        page.keyboard.press(key)


def test_without_numbers_there_are_dashes_and_names_stay_text(show: Show, nameless: Segmentation) -> None:
    page = show(nameless, "labels", ct=False)
    assert page.locator("#legend tbody tr td:nth-child(2)").all_inner_texts() == [f"{DASH}\n{DASH}"] * len(TISSUES)
    assert page.inner_text("#title") == nameless.run["input"]
    assert page.locator("#warnings li").all_inner_texts() == nameless.run["warnings"]
    assert page.locator("#title *, #warnings li *").count() == 0


def test_the_label_map_alone_tells_how_to_add_the_ct(show: Show, nameless: Segmentation) -> None:
    page = show(nameless, "labels", ct=False)
    assert "--ct CT" in page.inner_text("#hint")
    assert page.inner_text("#density") == ""
    assert page.inner_text("#class") in [label.title for label in TISSUES]
    assert not page.locator("#window").is_visible()


def test_a_scan_alone_is_shown_without_a_result(show: Show, varied: Segmentation) -> None:
    page = show(varied, "scan", labels=False)
    voxel, hu, title, _ = readout(page)
    assert (hu, title) == (varied.ct.array[voxel], "")
    assert not page.locator("#result").is_visible()
    assert page.locator("#layout option").all_inner_texts() == ["planes", "axial", "coronal", "sagittal"]
    assert eventually(page, lambda: bool((picture(page).max(-1) > 60).mean() > 0.1))


def test_a_phone_shows_all_of_it_without_scrolling_sideways(show: Show, chest: Segmentation) -> None:
    page = show(chest, "phone", viewport={"width": 390, "height": 844}, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert eventually(page, lambda: bool((picture(page, "#stage").max(-1) > 60).mean() > 0.1))
    assert page.locator("#legend").is_visible()
    box = page.locator("#legend").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390


def test_a_browser_without_webgl2_gets_an_explanation(browse: Browse, chest: Segmentation, tmp_path: Path) -> None:
    output.write(chest, tmp_path / "out", output.Products(preview=False, report=False))
    with ViewServer(gather(tmp_path / "out")) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        page = browse("about:blank")
        page.add_init_script(
            "{ const known = HTMLCanvasElement.prototype.getContext; HTMLCanvasElement.prototype.getContext ="
            " function (kind, ...more) { return kind === 'webgl2' ? null : known.call(this, kind, ...more); }; }"
        )
        page.goto(server.address)
        page.wait_for_selector("body[data-state=failed]")
        assert "WebGL2 is missing" in page.inner_text("#message")
        server.shutdown()
