"""index.html: the cohort as a table, pictures and distributions, in one file beside the results that needs no network.

The page holds the rows as JSON (about 0.6 kB per scan), which its script draws; pictures are linked. Text from files
never becomes markup: the script sets text content only, and the page's policy allows no other script.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from diffseglung import __version__
from diffseglung.cohort.outliers import FEWEST, LIMIT, MAD_TO_SD, Spread, spread
from diffseglung.cohort.table import BETWEEN_WARNINGS, BY_NAME, COLUMNS, Column, Row
from diffseglung.labels import HEALTHY, LESIONS, TISSUES
from diffseglung.output.selfcontained import embedded, source_of
from diffseglung.platform import atomic_files

SHARES = ("lesions_percent", *(f"{label.name}_percent" for label in (*LESIONS, HEALTHY)))
MEASURES = (*SHARES, "lung_ml", "mean_lung_density_hu")
"""Columns with a distribution and outliers."""
SHOWN = ("scan", "status", *MEASURES, "lung_score", "noise_hu", "warnings")
"""Columns shown by default."""
STATUSES = {"done": "labelled", "failed": "failed", "waiting": "waiting"}
NUMBER = re.compile(r"(?<![\w.-])-?\d+(?:\.\d+)?(?!\w)")
"""A number in a warning, but not the one in LAA-950."""
LONGEST_TEXT = 1000
"""Most characters of a text in the page; cohort.csv has the whole text."""
PREVIEW, REPORT = 1, 2
FILES = {
    "cohort.csv": "one row per scan, with all columns",
    "cohort.parquet": "the same for pandas, R, DuckDB",
    "cohort_redcap.csv": "records for REDCap's Data Import Tool",
    "redcap_data_dictionary.csv": "their fields: a Data Dictionary for a new project, or lines to add to one",
}


def write_page(rows: Sequence[Row], output: Path) -> Path:
    """Write index.html into the cohort's folder, complete or not at all."""
    return atomic_files.write_bytes(output / "index.html", page(rows, output).encode("utf-8", "backslashreplace"))


def page(rows: Sequence[Row], output: Path) -> str:
    """The text of the page.  output: the folder with previews, reports and tables."""
    static = files("diffseglung.cohort") / "static"
    read = {path.name: path.read_text(encoding="utf-8") for path in static.iterdir() if path.is_file()}
    script = "{\n" + read["scans.js"] + read["distributions.js"] + "}\n"
    known = {name: spread([_number(row[name]) for row in rows]) for name in MEASURES}
    counts = Counter(row["status"] for row in rows)
    failed = f", {counts['failed']} failed" if counts["failed"] else ""
    return Template(read["page.html"]).substitute(
        policy=escape(
            "default-src 'none'; img-src 'self' data: file:; style-src 'unsafe-inline'; "
            f"script-src {source_of(script)}; base-uri 'none'; form-action 'none'"
        ),
        title=escape(f"Cohort {output.resolve().name}".strip()),
        counts=f"{counts['done']} of {len(rows)} scans labelled{failed}. Shares are of both lungs.",
        style=_colours() + read["page.css"],
        rule=_rule(max(found.count for found in known.values())),
        files="".join(_file(name, what) for name, what in FILES.items() if (output / name).exists()),
        made=f"DiffSegLung {escape(__version__)}.",
        data=embedded(_data(rows, known, output)),
        script=script,
    )


def _colours() -> str:
    colours = "".join(f" --{label.name}: rgb{label.colour};" for label in TISSUES)
    return f":root {{{colours} --lesions: var(--dot); }}\n"


def _rule(measured: int) -> str:
    rule = (
        f"Diamonds are outliers: further from the median than {LIMIT:g} &times; {MAD_TO_SD:g} &times; the median "
        "distance from it (Iglewicz and Hoaglin 1993; dashed lines). Outliers in lung volume and low lung scores are "
        "often failed lung masks: check the picture."
    )
    return rule if measured >= FEWEST else f"Outliers and quartiles are shown from {FEWEST} measured scans on."


def _file(name: str, what: str) -> str:
    return f'<li><a href="{name}" download>{name}</a>: {escape(what)}</li>'


def _data(rows: Sequence[Row], known: dict[str, Spread], output: Path) -> dict[str, Any]:
    """The data for the script."""
    said = [_findings(row["warnings"]) for row in rows]
    warned = [list(dict.fromkeys(map(_kind, found))) for found in said]
    counts = Counter(kind for kinds in warned for kind in kinds)
    kinds = sorted(counts, key=lambda kind: (-counts[kind], kind))
    place = {kind: i for i, kind in enumerate(kinds)}
    return {
        "columns": [_column(column) for column in BY_NAME.values()],
        "classes": [{"name": label.name, "title": label.title} for label in TISSUES],
        "display": [*SHOWN, *(name for name in COLUMNS if name not in SHOWN)],
        "shares": SHARES,
        "statuses": STATUSES,
        "rows": [[_value(row[name]) for name in COLUMNS] for row in rows],
        "folders": [quote(str(row["scan"]), safe="", errors="surrogateescape") for row in rows],
        "files": [_files(row, output) for row in rows],
        "warned": [[place[kind] for kind in kinds] for kinds in warned],
        "said": ["; ".join(found) for found in said],
        "kinds": [{"name": _ranged(kind, said), "count": counts[kind]} for kind in kinds],
        "done": sum(row["status"] == "done" for row in rows),
        "spread": {name: {"low": s.low, "high": s.high, "outliers": s.outliers} for name, s in known.items()},
        "fewest": FEWEST,
        "totals": _totals(rows, known),
    }


def _column(column: Column) -> dict[str, Any]:
    return {
        "name": column.name,
        "title": column.title,
        "unit": column.unit,
        "note": column.note,
        "digits": column.digits,
        "text": column.is_text,
        "shown": column.name in SHOWN,
        "meter": column.name.removesuffix("_percent") if column.name in SHARES else None,
    }


def _number(value: str | int | float | None) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _value(value: str | int | float | None) -> str | int | float | None:
    if isinstance(value, str):
        return value if len(value) <= LONGEST_TEXT else value[: LONGEST_TEXT - 3] + "..."
    number = _number(value)
    return int(number) if number is not None and number.is_integer() else number


def _files(row: Row, output: Path) -> int:
    if row["status"] != "done":
        return 0
    folder = output / str(row["scan"])
    return PREVIEW * (folder / "preview.png").exists() + REPORT * (folder / "report.html").exists()


def _findings(warnings: str | int | float | None) -> list[str]:
    """The finding of each warning, with its numbers, without the text in parentheses and after the colon."""
    texts = str(warnings or "").split(BETWEEN_WARNINGS)
    found = (re.sub(r"\s*\([^)]*\)", "", text).split(": ", 1)[0].strip()[:200] for text in texts)
    return [text for text in found if text]


def _kind(finding: str) -> str:
    """A finding without its numbers."""
    return NUMBER.sub("\N{HORIZONTAL ELLIPSIS}", finding)


def _ranged(kind: str, said: Sequence[Sequence[str]]) -> str:
    """A kind of finding, with the range of each number over the scans."""
    figures = zip(*(NUMBER.findall(text) for found in said for text in found if _kind(text) == kind), strict=False)
    ends = [(min(column, key=float), max(column, key=float)) for column in figures]
    ranges = iter(low if float(low) == float(high) else f"{low} to {high}" for low, high in ends)
    return re.sub("\N{HORIZONTAL ELLIPSIS}", lambda gap: next(ranges, gap[0]), kind)


def _totals(rows: Sequence[Row], known: dict[str, Spread]) -> list[dict[str, str]]:
    """The tiles at the top."""
    counts = Counter(row["status"] for row in rows)
    warned = sum(bool(row["warnings"]) for row in rows)
    odd = {i for found in known.values() for i in found.outliers}
    seconds = sum(_number(row["seconds"]) or 0.0 for row in rows)
    volume = known["lung_ml"].median

    def tile(title: str, value: str, href: str = "", kind: str = "", note: str = "") -> dict[str, str]:
        return {"title": title, "value": value, "href": href, "kind": kind, "note": note}

    tiles = [tile("scans", f"{len(rows):,}"), tile("labelled", f"{counts['done']:,}", "#scans", "good")]
    tiles.append(tile("failed", f"{counts['failed']:,}", "#failed", "bad" if counts["failed"] else ""))
    if counts["waiting"]:
        tiles.append(tile("waiting", f"{counts['waiting']:,}"))
    tiles.append(tile("with warnings", f"{warned:,}", "#warned", "warn" if warned else ""))
    volumes = len(known["lung_ml"].outliers)
    tiles.append(tile("outliers", f"{len(odd):,}", "#spread", "", f"{volumes} in lung volume" if volumes else ""))
    if volume is not None:
        tiles.append(tile("median lung volume", f"{volume / 1000:.2f} L"))
    lesions = known["lesions_percent"].median
    if lesions is not None:
        tiles.append(tile(f"median {BY_NAME['lesions_percent'].title.lower()}", f"{lesions:.1f} %"))
    return [*tiles, tile("computing time", _duration(seconds))]


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
