"""The page: every scan is on it, no text from outside becomes markup, and it reads nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from diffseglung.cohort.page import LONGEST_TEXT, page, write_page
from diffseglung.cohort.table import BY_NAME, COLUMNS, Row
from tests.cohort.cohort_rows import HOSTILE, a_cohort, a_row


class Reader(HTMLParser):
    """Collects tags with their attributes, and the text of each."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.texts.append("")
        self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.texts[-1] += data

    def of(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        return [(attrs, text) for (name, attrs), text in zip(self.tags, self.texts, strict=True) if name == tag]


def read(rows: list[Row], folder: Path) -> Reader:
    reader = Reader()
    reader.feed(page(rows, folder))
    return reader


def data(rows: list[Row], folder: Path) -> dict[str, Any]:
    ((_, text),) = [found for found in read(rows, folder).of("script") if found[0].get("type") == "application/json"]
    return json.loads(text)


def test_every_scan_is_in_the_data_with_every_column(tmp_path: Path) -> None:
    rows = a_cohort(30)
    found = data(rows, tmp_path)
    assert [column["name"] for column in found["columns"]] == list(COLUMNS)
    for row, values in zip(rows, found["rows"], strict=True):
        assert values == [row[column.name] for column in BY_NAME.values()]
    assert sorted(found["display"]) == sorted(COLUMNS)


def test_counts_are_told_without_a_script(tmp_path: Path) -> None:
    rows = [a_row(scan="a", status="done"), a_row(scan="b", status="failed"), a_row(scan="c", status="waiting")]
    reader = read(rows, tmp_path)
    assert any("1 of 3 scans labelled, 1 failed" in text for _, text in reader.of("p"))
    tiles = {tile["title"]: tile["value"] for tile in data(rows, tmp_path)["totals"]}
    assert {tiles[name] for name in ("labelled", "failed", "waiting")} == {"1"}
    assert tiles["scans"] == "3"


def test_hostile_text_leaves_the_tags_as_they_are(tmp_path: Path) -> None:
    plain = read([a_row(scan="a", status="failed", error="b", warnings="c")] * len(HOSTILE), tmp_path)
    rows = [a_row(scan=text, input=text, status="failed", error=text, warnings=text) for text in HOSTILE]
    hostile = read(rows, tmp_path)
    assert hostile.tags == plain.tags
    assert [row[0] for row in data(rows, tmp_path)["rows"]] == list(HOSTILE)
    text = page(rows, tmp_path)
    inside = text[text.index('id="data">') + len('id="data">') : text.index("</script>")]
    assert inside.isascii()
    assert not set("<>&") & set(inside)


def test_a_hostile_folder_is_text_too(tmp_path: Path) -> None:
    folder = tmp_path / '<img src=x onerror=alert(1)>&"'
    folder.mkdir()
    reader = read([], folder)
    assert not reader.of("img")
    assert reader.of("title")[0][1].strip() == f"Cohort {folder.name}"


def test_the_policy_allows_this_script_alone(tmp_path: Path) -> None:
    reader = read(a_cohort(3), tmp_path)
    ((policy, _),) = [meta for meta in reader.of("meta") if meta[0].get("http-equiv") == "Content-Security-Policy"]
    ((_, script),) = [found for found in reader.of("script") if not found[0]]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    rules = dict(rule.strip().split(" ", 1) for rule in str(policy["content"]).split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert "<!--" not in script


def test_the_script_writes_no_markup() -> None:
    folder = Path(__file__).parents[2] / "diffseglung" / "cohorts" / "static"
    for path in folder.glob("*.js"):
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 400
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "srcdoc"):
            assert word not in text, (path.name, word)


def test_the_page_reads_nothing_from_elsewhere(tmp_path: Path) -> None:
    path = write_page(a_cohort(3), tmp_path)
    assert path.name == "index.html"
    text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")  # a namespace, never loaded
    assert "http:" not in text
    assert "https:" not in text
    assert not list(tmp_path.glob("*.part"))


def test_previews_and_reports_are_told_where_they_exist(tmp_path: Path) -> None:
    for name, files in {"a": ["preview.png"], "b c": ["preview.png", "report.html"], "d": []}.items():
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_bytes(b"")
    found = data([a_row(scan=name, status="done") for name in ("a", "b c", "d")], tmp_path)
    assert found["files"] == [1, 3, 0]
    assert found["folders"] == ["a", "b%20c", "d"]


def test_only_files_that_exist_are_offered(tmp_path: Path) -> None:
    (tmp_path / "cohort.csv").write_text("scan\n")
    listed = [attrs["href"] for attrs, _ in read([], tmp_path).of("a") if "download" in attrs]
    assert listed == ["cohort.csv"]


def test_warnings_are_counted_by_what_they_are_about(tmp_path: Path) -> None:
    def noisy(hu: int) -> str:
        return f"noise is {hu} HU (more than 40: much): emphysema; fibrosis cannot be told"

    cut = "the lungs are cut off (lowest slice; front): volumes are of a part"
    texts = [noisy(61), f"{noisy(70)} | {cut}", None, f"{noisy(50)} | {noisy(51)}"]
    rows = [a_row(scan=str(i), status="done", warnings=text) for i, text in enumerate(texts)]
    found = data(rows, tmp_path)
    assert found["kinds"] == [
        {"name": "noise is 50 to 70 HU", "count": 3},
        {"name": "the lungs are cut off", "count": 1},
    ]
    assert found["warned"] == [[0], [0, 1], [], [0]]
    assert found["said"] == [
        *("noise is 61 HU", "noise is 70 HU; the lungs are cut off", ""),
        "noise is 50 HU; noise is 51 HU",
    ]


@pytest.mark.parametrize(
    ("texts", "name"),
    [
        (["pixels are 2.4 mm wide (chest CT has 0.5 to 1 mm): the scan was resampled"], "pixels are 2.4 mm wide"),
        (["air reads -985 HU", "air reads -1020 HU: off"], "air reads -1020 to -985 HU"),
        (["3 of 40 slices", "12 of 40 slices"], "3 to 12 of 40 slices"),
        (["LAA-950 is off", "LAA-950 is off"], "LAA-950 is off"),
    ],
)
def test_figures_of_warnings_are_kept_as_a_range(texts: list[str], name: str, tmp_path: Path) -> None:
    rows = [a_row(scan=str(i), status="done", warnings=text) for i, text in enumerate(texts)]
    assert data(rows, tmp_path)["kinds"] == [{"name": name, "count": len(texts)}]


@pytest.mark.parametrize(("measured", "marked"), [(3, False), (7, False), (8, True)])
def test_the_rule_of_outliers_is_told_where_it_is_used(measured: int, marked: bool, tmp_path: Path) -> None:
    rows = [a_row(scan=str(i), status="done", lung_ml=5000.0 + i) for i in range(measured)]
    text = page([*rows, *(a_row(scan=f"x{i}", status="failed") for i in range(20))], tmp_path)
    assert ("Diamonds are outliers" in text) == marked


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_unknown(value: float, tmp_path: Path) -> None:
    found = data([a_row(scan="a", status="done", lung_ml=value)], tmp_path)
    assert found["rows"][0][COLUMNS.index("lung_ml")] is None


def test_paths_that_are_no_unicode_can_be_written(tmp_path: Path) -> None:
    row = a_row(scan="a\udcff", input="\udcff.nii", status="done")
    assert "a%FF" in write_page([row], tmp_path).read_text(encoding="utf-8")


def test_the_page_of_two_thousand_scans_stays_under_two_megabytes(tmp_path: Path) -> None:
    assert write_page(a_cohort(2000), tmp_path).stat().st_size < 2_000_000
    long = data([a_row(scan="a", status="failed", error="x" * 10**6)], tmp_path)
    assert len(long["rows"][0][COLUMNS.index("error")]) == LONGEST_TEXT
