"""index.html: a picture and the shares of each scan of a cohort, and why others failed; one file beside the results."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from diffseglung.cohorts.table import Row
from diffseglung.labels import LESIONS

STYLE = """
body { margin: 2rem auto; max-width: 110rem; padding: 0 1rem; background: #0b0d10; color: #f2f2f2;
       font: 15px/1.45 system-ui, sans-serif; }
a { color: inherit; } h1 { font-size: 1.5rem; } .dim { color: #9aa0a6; }
ul.scans { display: grid; grid-template-columns: repeat(auto-fill, minmax(24rem, 1fr)); gap: 1rem; padding: 0; }
ul.scans li { list-style: none; background: #15191e; border-radius: .5rem; overflow: hidden; }
ul.scans img { width: 100%; aspect-ratio: 16 / 9; display: block; background: #000; }
ul.scans div { padding: .6rem .8rem; } .name { overflow-wrap: anywhere; font-weight: 600; }
.bar { display: flex; height: .6rem; margin: .4rem 0; background: #2f6b3c; } .note { color: #ffc24b; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; padding: .35rem .8rem .35rem 0;
        border-bottom: 1px solid #2a2f36; vertical-align: top; overflow-wrap: anywhere; }
@media print { body { background: #fff; color: #000; } ul.scans li { background: #fff; border: 1px solid #aaa; } }
"""


def write_page(rows: Sequence[Row], output: Path) -> Path:
    """index.html in the cohort's folder; complete before it takes its name."""
    path = output / "index.html"
    part = path.with_name(path.name + ".part")
    part.write_text(page(rows, output), encoding="utf-8")
    part.replace(path)
    return path


def page(rows: Sequence[Row], output: Path) -> str:
    """The page's text. Everything that came from outside is escaped."""
    done = [row for row in rows if row["status"] == "done"]
    failed = [row for row in rows if row["status"] == "failed"]
    counts = f"{len(done)} of {len(rows)} scans labelled" + (f", {len(failed)} failed" if failed else "")
    cards = "\n".join(_card(row, output) for row in done)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Cohort</title>'
        f"<style>{STYLE}</style></head><body>\n<h1>Cohort</h1>\n"
        f'<p>{counts}. <a href="cohort.csv">Table</a>. '
        '<span class="dim">Shares are of both lungs. Research use only; not a medical device.</span></p>\n'
        f'{_failures(failed)}<ul class="scans">\n{cards}\n</ul>\n</body></html>\n'
    )


def _card(row: Row, output: Path) -> str:
    name = str(row["scan"])
    folder = quote(name)
    picture = ""
    if (output / name / "preview.png").exists():
        picture = (
            f'<a href="{folder}/preview.png"><img loading="lazy" src="{folder}/preview.png" '
            f'alt="{escape(name)}: six planes with labels"></a>'
        )
    shares = [(label, float(row[f"{label.name}_percent"] or 0)) for label in LESIONS]
    bar = "".join(
        f'<span style="width:{share:.2f}%;background:rgb{label.colour}" title="{escape(label.title)}"></span>'
        for label, share in shares
    )
    text = ", ".join(f"{escape(label.title)} {share:.1f} %" for label, share in shares)
    note = f'<div class="note">{escape(str(row["warnings"]))}</div>' if row["warnings"] else ""
    return (
        f'<li>{picture}<div><div class="name"><a href="{folder}/">{escape(name)}</a></div>'
        f'<div class="bar">{bar}</div><div class="dim">{text}; lungs {float(row["lung_ml"] or 0) / 1000:.2f} L</div>'
        f"{note}</div></li>"
    )


def _failures(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    lines = "".join(
        f"<tr><td>{escape(str(row['scan']))}</td><td>{escape(str(row['input']))}</td>"
        f"<td>{escape(str(row['error']))}</td></tr>"
        for row in rows
    )
    return f"<h2>Failed</h2>\n<table><tr><th>scan</th><th>input</th><th>reason</th></tr>{lines}</table>\n"
