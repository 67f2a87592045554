"""The page: every scan is on it, and no text from outside becomes markup."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from diffseglung.cohorts.page import page, write_page
from diffseglung.cohorts.table import COLUMNS, Row

HOSTILE = "<script>alert(1)</script>\"&'"


class Reader(HTMLParser):
    """Collects tags and text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def a_row(**known: object) -> Row:
    return dict.fromkeys(COLUMNS) | known  # type: ignore[return-value]


def test_done_and_failed_scans_are_told_and_nothing_is_markup(tmp_path: Path) -> None:
    rows = [
        a_row(scan="good", input="x", status="done", lung_ml=5000.0, emphysema_percent=12.5, warnings=HOSTILE),
        a_row(scan="bad", input=HOSTILE, status="failed", error=HOSTILE),
        a_row(scan="later", input="y", status="waiting"),
    ]
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "preview.png").write_bytes(b"png")
    reader = Reader()
    reader.feed(page(rows, tmp_path))
    assert "script" not in reader.tags
    assert reader.tags.count("img") == 1
    assert "1 of 3 scans labelled, 1 failed" in reader.text
    assert "Emphysema 12.5 %" in reader.text
    assert reader.text.count(HOSTILE) == 3


def test_the_page_reads_nothing_from_elsewhere(tmp_path: Path) -> None:
    path = write_page([], tmp_path)
    assert path.name == "index.html"
    text = path.read_text()
    assert "http:" not in text
    assert "https:" not in text
    assert not list(tmp_path.glob("*.part"))
