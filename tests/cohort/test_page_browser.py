"""The page in a browser: what is clicked, typed and read there."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffseglung.cohort.page import MEASURES, write_page
from diffseglung.cohort.table import COLUMNS, Row, read_table, write_tables
from tests.browser import Browse
from tests.cohort.cohort_rows import HOSTILE, a_cohort, a_row


@pytest.fixture
def rows() -> list[Row]:
    return a_cohort(60)


@pytest.fixture
def cohort(tmp_path: Path, rows: list[Row]) -> Path:
    """index.html of 60 scans; the first has a picture, the second a report too."""
    for name, files in (("scan_0000", ["preview.png"]), ("scan_0001", ["preview.png", "report.html"])):
        (tmp_path / name).mkdir()
        for file in files:
            Image.new("RGB", (16, 9)).save(tmp_path / name / file, "PNG")
    write_tables(rows, tmp_path)
    return write_page(rows, tmp_path)


def names(page: Any) -> list[str]:
    """Scans of the table, from top to bottom, all drawn as for print."""
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    return page.locator("#table tbody th").all_inner_texts()


def expected(rows: list[Row], name: str, *, down: bool) -> list[str]:
    """The order by a column of numbers, unknown last."""
    known = [row for row in rows if row[name] is not None]
    rest = [row for row in rows if row[name] is None]
    return [str(row["scan"]) for row in [*sorted(known, key=lambda row: row[name], reverse=down), *rest]]  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize("name", ["emphysema_percent", "mean_lung_density_hu", "noise_hu"])
def test_numbers_are_sorted_as_numbers_and_unknown_ones_stay_last(
    name: str, cohort: Path, rows: list[Row], browse: Browse
) -> None:
    page = browse(cohort)
    head = page.locator(f"th[data-name={name}]")
    for down in (True, False):
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == ("descending" if down else "ascending")
        assert page.locator("th[aria-sort$=ending]").count() == 1
        assert names(page) == expected(rows, name, down=down)


def test_the_keyboard_sorts(cohort: Path, rows: list[Row], browse: Browse) -> None:
    page = browse(cohort)
    page.focus("th[data-name=lung_ml] button")
    page.keyboard.press("Enter")
    assert names(page) == expected(rows, "lung_ml", down=True)
    page.keyboard.press("Space")
    assert names(page) == expected(rows, "lung_ml", down=False)
    assert page.evaluate("document.activeElement.closest('th').dataset.name") == "lung_ml"


def test_names_are_sorted_with_their_numbers(tmp_path: Path, browse: Browse) -> None:
    page = browse(write_page([a_row(scan=f"s{i}", status="done") for i in (10, 9, 100, 1)], tmp_path))
    page.click("th[data-name=scan] button")
    assert names(page) == ["s1", "s9", "s10", "s100"]


def test_filters_show_the_right_scans_and_count_them(cohort: Path, rows: list[Row], browse: Browse) -> None:
    page = browse(cohort)

    def shown(wanted: Any) -> None:
        found = [str(row["scan"]) for row in rows if wanted(row)]
        assert 0 < len(found) < len(rows)
        assert names(page) == found
        assert page.inner_text("#shown") == f"{len(found)} of {len(rows)} scans"

    page.fill("#text", "SCAN_001")
    shown(lambda row: "scan_001" in row["scan"])
    page.fill("#text", "cannot be read")
    shown(lambda row: row["error"])
    page.click("#clear")
    assert len(names(page)) == len(rows)
    page.select_option("#status", "waiting")
    shown(lambda row: row["status"] == "waiting")
    page.click("#clear")
    page.select_option("#warning", "none")
    shown(lambda row: not row["warnings"])
    page.select_option("#warning", "any")
    shown(lambda row: row["warnings"])
    page.select_option("#class", "emphysema_percent")
    page.fill("#least", "2.5")
    shown(lambda row: row["warnings"] and row["emphysema_percent"] >= 2.5)
    page.click("#clear")
    page.locator("#warnings button").nth(1).click()
    shown(lambda row: "cut off" in (row["warnings"] or ""))


def test_each_scan_shows_the_figures_of_its_own_warnings(tmp_path: Path, browse: Browse) -> None:
    texts = [f"pixels are {mm} mm wide (chest CT has 0.5 to 1 mm): the scan was resampled" for mm in (1.8, 2.4)]
    rows = [a_row(scan=f"s{i}", status="done", warnings=text) for i, text in enumerate(texts)]
    page = browse(write_page(rows, tmp_path))
    assert page.locator("#table .note").all_inner_texts() == ["pixels are 1.8 mm wide", "pixels are 2.4 mm wide"]
    assert page.locator("#warnings button").all_inner_texts() == ["pixels are 1.8 to 2.4 mm wide"]


@pytest.mark.parametrize(("scans", "boxes"), [(1, 0), (3, 0), (7, 0), (8, 1)])
def test_quartiles_are_drawn_of_enough_scans(scans: int, boxes: int, tmp_path: Path, browse: Browse) -> None:
    rows = [a_row(scan=str(i), status="done", lung_ml=4000.0 + 100 * i) for i in range(scans)]
    page = browse(write_page(rows, tmp_path))
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#plots rect.box").count() == boxes
    assert page.locator("#plots line.median").count() == 1


def outliers(rows: list[Row], name: str) -> set[str]:
    """By NumPy, from the rule's own words."""
    values = np.array([np.nan if row[name] is None else row[name] for row in rows], float)
    away = np.abs(values - np.nanmedian(values))
    far = away > 3.5 * 1.4826 * np.nanmedian(away)
    return {str(row["scan"]) for row, odd in zip(rows, far, strict=True) if odd}


def test_outliers_are_those_of_the_rule(cohort: Path, rows: list[Row], browse: Browse) -> None:
    page = browse(cohort)
    names(page)
    marked: dict[str, list[str]] = page.evaluate(
        """Object.fromEntries([...document.querySelectorAll("#table thead th")].map((head, i) => [head.dataset.name,
            [...document.querySelectorAll("#table tbody tr")].filter(row => row.cells[i].querySelector(".outlier"))
                .map(row => row.cells[0].innerText)]))"""
    )
    every: set[str] = set()
    for name in MEASURES:
        assert set(marked[name]) == outliers(rows, name), name
        every |= outliers(rows, name)
    assert {"scan_0000", "scan_0020", "scan_0040"} == outliers(rows, "lung_ml")
    page.check("#outliers")
    assert set(names(page)) == every


def test_pictures_and_links(cohort: Path, rows: list[Row], browse: Browse) -> None:
    page = browse(cohort)
    page.click("#as-gallery")
    assert page.locator("#table").is_hidden()
    assert page.locator("#gallery > li").count() >= 24
    images = page.locator("#gallery img")
    assert [image.get_attribute("src") for image in images.all()] == ["scan_0000/preview.png", "scan_0001/preview.png"]
    assert {image.get_attribute("loading") for image in images.all()} == {"lazy"}
    assert images.first.evaluate("image => image.decode().then(() => image.naturalWidth)") == 16
    assert page.get_attribute("#scan-0 a.name", "href") == "scan_0000/preview.png"
    assert page.get_attribute("#scan-1 a.name", "href") == "scan_0001/report.html"
    assert page.locator("#scan-3 a").count() == 0
    assert "cannot be read" in page.inner_text("#scan-3")
    page.click("#as-table")
    assert page.locator("#gallery").is_hidden()
    assert len(names(page)) == len(rows)


def test_a_dot_names_its_scan_and_leads_to_it(cohort: Path, rows: list[Row], browse: Browse) -> None:
    page = browse(cohort)
    page.locator("#spread").scroll_into_view_if_needed()
    measured = [row for row in rows if row["lung_ml"] is not None]
    plot = page.locator(".plot", has_text="Lung volume")
    plot.scroll_into_view_if_needed()
    svg = plot.locator("svg")
    assert plot.locator(".dot").count() == len(measured)
    assert plot.locator(".odd").count() == len(outliers(rows, "lung_ml"))
    svg.focus()
    page.keyboard.press("End")
    largest = max(measured, key=lambda row: float(row["lung_ml"] or 0))
    assert str(largest["scan"]) in page.inner_text("#tip")
    page.fill("#text", "nothing has this name")
    plot.locator("svg:not(:has(.dot:not(.faint)))").wait_for()
    assert plot.locator(".faint").count() == len(measured)
    svg.focus()
    page.keyboard.press("Home")
    smallest = min(measured, key=lambda row: float(row["lung_ml"] or 0))
    assert "outlier" in page.inner_text("#tip")
    page.keyboard.press("Enter")
    focused = page.locator("tr:focus")
    assert focused.locator("th").inner_text() == smallest["scan"]
    plot.locator(".odd").nth(1).click()
    assert page.locator("tr:focus th").inner_text() == sorted(outliers(rows, "lung_ml"))[1]


def test_failures_and_totals_are_told(cohort: Path, rows: list[Row], browse: Browse) -> None:
    page = browse(cohort)
    failed = [row for row in rows if row["status"] == "failed"]
    lines = page.locator("#failures tbody tr").all_inner_texts()
    assert len(lines) == len(failed)
    assert all(str(row["error"]) in line for row, line in zip(failed, lines, strict=True))
    assert f"{len(failed)}\nfailed" in page.inner_text("#totals")


def test_the_rows_shown_are_saved_as_the_table_has_them(
    cohort: Path, rows: list[Row], browse: Browse, tmp_path: Path
) -> None:
    page = browse(cohort)
    page.fill("#text", "scan_002")
    page.click("th[data-name=lung_ml] button")
    with page.expect_download() as download:
        page.click("#save")
    assert download.value.suggested_filename == "cohort_shown.csv"
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "cohort.csv").write_bytes(Path(download.value.path()).read_bytes())
    assert (tmp_path / "saved" / "cohort.csv").read_text(encoding="utf-8").splitlines()[0] == ",".join(COLUMNS)
    some = [row for row in rows if "scan_002" in str(row["scan"])]
    found = read_table(tmp_path / "saved")
    assert [row["scan"] for row in found] == expected(some, "lung_ml", down=True)
    by_name = {row["scan"]: row for row in read_table(tmp_path)}
    assert found == [by_name[row["scan"]] for row in found]


def test_hostile_text_does_nothing_and_is_shown(tmp_path: Path, browse: Browse) -> None:
    rows = [a_row(scan=text, input=text, status="failed", error=text) for text in HOSTILE]
    rows += [a_row(scan=f"{text}!", status="done", lung_ml=5000.0, warnings=text) for text in HOSTILE]
    page = browse(write_page(rows, tmp_path))
    for view in ("gallery", "table"):
        page.click(f"#as-{view}")
        page.wait_for_timeout(50)
        assert page.evaluate("window.hacked") is None
    assert page.locator("body img, body svg[onload], body script").count() == 2  # the data and the page's own
    shown = names(page)
    for text in HOSTILE[:3]:
        assert text in shown
        assert text in page.locator("#failures").inner_text()
    assert "a\u2039U+2028\u203ab\u2039U+2029\u203ac\u2039U+202E\u203ad\u2039U+200F\u203ae" in shown
    assert all(link.evaluate("a => a.protocol") == "file:" for link in page.locator("#table tbody a").all())
    assert page.evaluate("window.hacked") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_without_scrolling_sideways(scheme: str, cohort: Path, browse: Browse) -> None:
    page = browse(cohort, width=390, height=844, color_scheme=scheme)
    for view in ("gallery", "table"):
        page.click(f"#as-{view}")
        for place in ("scans", "spread", "failed", "export"):
            page.locator(f"#{place}").scroll_into_view_if_needed()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.click("#choose summary")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    box = page.locator("#columns").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(245, 246, 248)") == (scheme == "light")


def test_print_has_every_scan_shown_and_every_distribution(cohort: Path, rows: list[Row], browse: Browse) -> None:
    page = browse(cohort)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#table tbody tr").count() == len(rows)
    assert page.locator(".plot svg").count() == len(MEASURES)
    page.emulate_media(media="print")
    assert page.locator("#tools").is_hidden()
    assert page.locator("#table").evaluate("table => table.scrollHeight <= table.clientHeight + 1")


def test_columns_can_be_added_and_removed(cohort: Path, browse: Browse) -> None:
    page = browse(cohort)
    page.click("#choose summary")
    page.get_by_label("Version", exact=True).check()
    assert page.locator("th[data-name=version]").count() == 1
    page.get_by_label("Version", exact=True).uncheck()
    assert page.locator("th[data-name=version]").count() == 0


@pytest.mark.parametrize("count", [0, 1])
def test_the_page_of_next_to_nothing(count: int, tmp_path: Path, browse: Browse) -> None:
    page = browse(write_page(a_cohort(count), tmp_path))
    page.locator("#spread").scroll_into_view_if_needed()
    assert page.inner_text("#shown") == f"{count} of {count} scans"
    page.click("#as-gallery")
    assert page.locator("#gallery > li").count() == count


def test_two_thousand_scans_stay_quick(tmp_path: Path, browse: Browse) -> None:
    path = write_page(a_cohort(2000), tmp_path)
    start = time.perf_counter()
    page = browse(path)
    page.locator("#scan-49").wait_for()
    loaded = time.perf_counter() - start
    assert page.locator("#table tbody tr").count() == 50
    page.locator("#table tbody tr").last.scroll_into_view_if_needed()
    page.locator("#scan-99").wait_for(state="attached")
    typed = page.evaluate(
        """async () => {
            const box = document.getElementById("text"), times = [];
            for (const text of ["s", "sc", "scan_1", "scan_12", "scan_123", ""]) {
                const start = performance.now();
                box.value = text;
                box.dispatchEvent(new Event("input", { bubbles: true }));
                document.body.offsetHeight;  // laid out
                times.push(performance.now() - start);
                await new Promise(done => setTimeout(done, 20));
            }
            return times.sort((a, b) => a - b)[times.length >> 1];  // other work on this machine makes single ones slow
        }"""
    )
    start = time.perf_counter()
    page.locator("#spread").scroll_into_view_if_needed()
    page.locator(".plot svg").first.wait_for()
    assert page.locator(".plot").first.locator(".dot").count() > 1500
    drawn = time.perf_counter() - start
    assert loaded < 10
    assert typed < 2000
    assert drawn < 10
