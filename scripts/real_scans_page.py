"""Output of `real_scans.py`: pictures of a scan, the page, and its table in plain text."""

from __future__ import annotations

import html
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from diffseglung.labels import LESIONS
from diffseglung.platform.errors import InputError
from diffseglung.volume import Volume

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]

WINDOWS = {"lung": (-1350.0, 150.0), "soft": (-200.0, 300.0)}
PLANES = {"axial": 0, "coronal": 1, "sagittal": 2}
SHARES = {
    "axial": (0.95, 0.77, 0.59, 0.41, 0.23, 0.05), "coronal": (0.2, 0.4, 0.6, 0.8), "sagittal": (0.2, 0.38, 0.62, 0.8),
}  # fmt: skip
"""Positions of planes: axial ones by height, others by the fraction of the body before them; not by the lungs."""
SIDES: dict[int, Colour] = {1: (0, 225, 255), 2: (120, 255, 60)}
OUTSIDE, FAT, BORDER, BODY_FAT = 1, 2, 3, 4
FAULTS: dict[int, Colour] = {
    OUTSIDE: (255, 30, 30), BODY_FAT: (255, 255, 0), FAT: (255, 170, 0), BORDER: (170, 90, 255),
}  # fmt: skip
FAULT_NAMES = {
    OUTSIDE: "lung outside the body",
    BODY_FAT: "consolidation as homogeneous as body fat",
    FAT: "consolidation with the density of fat, less homogeneous",
    BORDER: "border of consolidation with the mean density of fat",
}
TINT, FAULT_TINT, TILE = 0.5, 0.6, 330


@dataclass(frozen=True, eq=False)
class Views:
    """Volumes on one canonical grid. lungs: 1 right, 2 left; faults: keys of FAULT_NAMES."""

    ct: Volume
    lungs: NDArray[Any]
    labels: NDArray[Any]
    faults: NDArray[Any]
    body: NDArray[np.bool_]


def draw(views: Views, out: Path) -> None:
    """out/{axial,coronal,sagittal}_{lung,soft}.png: strips of planes, the whole field of view."""
    for plane, axis in PLANES.items():
        places = _places(views.body, plane)
        for window in WINDOWS:
            tiles = [_tile(views, axis, index, window) for index in places]
            Image.fromarray(np.concatenate(tiles, 1)).save(out / f"{plane}_{window}.png", optimize=True)


def _places(body: NDArray[np.bool_], plane: str) -> list[int]:
    axis = PLANES[plane]
    count = body.shape[axis]
    if axis == 0 or not body.any():
        return [min(count - 1, int(share * count)) for share in SHARES[plane]]
    before = np.cumsum(body.sum(tuple({0, 1, 2} - {axis})))
    return [int(np.searchsorted(before, share * before[-1])) for share in SHARES[plane]]


def _tile(views: Views, axis: int, index: int, window: str) -> Picture:
    """One plane in colour, head or front on top, the patient's right on the left, with its index."""
    hu, lungs, labels, faults = (
        np.take(array, index, axis) for array in (views.ct.array, views.lungs, views.labels, views.faults)
    )
    if axis:
        hu, lungs, labels, faults = hu[::-1], lungs[::-1], labels[::-1], faults[::-1]
    down, across = (mm for k, mm in enumerate(views.ct.spacing_mm) if k != axis)
    scale = TILE / (views.ct.shape[2] * views.ct.spacing_mm[2])
    size = (max(8, round(hu.shape[1] * across * scale)), max(8, round(hu.shape[0] * down * scale)))
    low, high = WINDOWS[window]
    grey = (255 * np.clip((hu - low) / (high - low), 0, 1)).astype(np.uint8)
    rgb = np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BILINEAR).convert("RGB")).copy()
    if window == "lung":
        for label in LESIONS:
            _tint(rgb, _resized(labels == label.id, size), label.colour, TINT)
    else:
        for fault, colour in FAULTS.items():
            _tint(rgb, _resized(faults == fault, size), colour, FAULT_TINT)
    for side, colour in SIDES.items():
        mask = np.pad(_resized(lungs == side, size), 1)
        inner = mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
        rgb[mask[1:-1, 1:-1] & ~inner] = colour
    picture = Image.fromarray(np.pad(rgb, ((0, 0), (0, 4), (0, 0))))
    ImageDraw.Draw(picture).text((3, 1), str(index), fill=(255, 225, 90))
    return np.asarray(picture)


def _resized(mask: NDArray[Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    return np.asarray(Image.fromarray(mask.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)) > 0


def _tint(rgb: Picture, where: NDArray[np.bool_], colour: Colour, share: float) -> None:
    rgb[where] = ((1 - share) * rgb[where] + share * np.array(colour)).astype(np.uint8)


@dataclass(frozen=True)
class Column:
    """A column. better: -1 if lower is better, 1 if higher, 0 if neither; worst: shown in red beyond."""

    key: str
    title: str
    about: str
    form: str = "{:.1f}"
    better: int = 0
    worst: float | None = None

    def text(self, value: float | None) -> str:
        """The value as shown; a dash if unknown."""
        return "-" if value is None else self.form.format(value)

    def bad(self, value: float | None) -> bool:
        """Whether it is beyond `worst`."""
        if value is None or self.worst is None:
            return False
        return value > self.worst if self.better < 0 else value < self.worst


COLUMNS = (
    Column("right_ml", "right", "mL of the right lung", "{:.0f}"),
    Column("left_ml", "left", "mL of the left lung", "{:.0f}"),
    Column("healthy", "healthy", "% of the lungs"),
    Column("emphysema", "emph.", "emphysema, % of the lungs"),
    Column("ggo", "GGO", "ground-glass opacity, % of the lungs"),
    Column("fibrosis", "fibr.", "fibrosis, % of the lungs"),
    Column("consolidation", "cons.", "consolidation, % of the lungs"),
    Column("lesions", "lesions", "% of the lungs"),
    Column("consolidation_ml", "cons. mL", "consolidation, mL", "{:.0f}"),
    Column("outside_ml", "outside", "mL of lung outside the body", better=-1, worst=0.0),
    Column("fat_ml", "fat", "mL of consolidation with the density of fat (-150 to -50 HU over 7 mm)",
           better=-1, worst=2.0),
    Column("even_fat_ml", "hom. fat", "mL of that without borders of lung (standard deviation below 120 HU)",
           better=-1, worst=2.0),
    Column("body_fat_ml", "body fat", "mL of that as homogeneous as body fat (below 64 HU)", better=-1, worst=2.0),
    Column("lung_quality", "quality", "quality score of the lungs, 0 to 1", "{:.2f}", 1, 0.5),
    Column("expert_dice", "expert", "Dice with the lungs of an expert", "{:.3f}", 1, 0.965),
    Column("reference_dice", "Dice", "Dice with the reference", "{:.3f}", 1, 0.965),
    Column("reference_right_dice", "Dice R", "right lung", "{:.3f}", 1, 0.95),
    Column("reference_left_dice", "Dice L", "left lung", "{:.3f}", 1, 0.95),
    Column("reference_right_ml", "ref. R", "mL of the reference's right lung", "{:.0f}"),
    Column("reference_left_ml", "ref. L", "mL of the reference's left lung", "{:.0f}"),
    Column("lung_seconds", "lungs s", "seconds to segment the lungs", better=-1),
    Column("seconds", "total s", "seconds in total", better=-1),
)  # fmt: skip
Records = list[dict[str, Any]]
Before = dict[str, dict[str, Any]]


def earlier(other: Path, out: Path) -> Before:
    """Records of an earlier run by name, and its pictures copied to out/NAME/before."""
    try:
        records = {item["name"]: item for item in json.loads((other / "scans.json").read_text(encoding="utf-8"))}
    except (OSError, ValueError) as cause:
        raise InputError(f"{other} holds no scans.json of an earlier run", remedy="pass the -o of that run") from cause
    for name in records:
        for path in (other / name).glob("*_*.png"):
            (out / name / "before").mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, out / name / "before" / path.name)
    return records


def _shown(records: Records) -> list[Column]:
    """Columns for which some scan has a value; quality always."""
    has = {key for record in records for key, value in record["figures"].items() if value is not None}
    return [column for column in COLUMNS if column.key in has or column.key == "lung_quality"]


def _change(column: Column, record: dict[str, Any], before: Before) -> float | None:
    """Change of a value since the earlier run; None unless both are known."""
    old = before.get(record["name"], {"figures": {}})["figures"].get(column.key)
    new = record["figures"].get(column.key)
    return None if old is None or new is None else new - old


def _signed(column: Column, change: float) -> str:
    text = column.form.replace(":", ":+").format(change)
    return "=" if float(text) == 0 else text


def summary(records: Records) -> str:
    """Number of scans, and the volume in them that cannot be lung or consolidation."""
    done = [record["figures"] for record in records if not record["error"]]
    told = [f"{len(records)} scans", f"{len(records) - len(done)} failed"]
    for key, name in (("outside_ml", "lung outside the body"), ("even_fat_ml", "fat labelled consolidation")):
        column = next(column for column in COLUMNS if column.key == key)
        found = [figures.get(key) or 0.0 for figures in done]
        told.append(f"{name}: {sum(found):.0f} mL, {sum(map(column.bad, found))} scans above {column.worst:g} mL")
    return "; ".join(told)


def text_table(records: Records, before: Before) -> str:
    """One line per scan; below it the change since the earlier run, if there is one."""
    columns = _shown(records)
    width = max([len(record["name"]) for record in records] + [4])
    lines = [f"{'scan':{width}} split " + " ".join(f"{column.title:>8}" for column in columns)]
    for record in records:
        head = f"{record['name']:{width}} {record['split'] or '-':5} "
        if record["error"]:
            lines.append(f"{head}  {record['error']}")
            continue
        cells = [column.text(record["figures"].get(column.key)) for column in columns]
        lines.append(head + " ".join(f"{cell:>8}" for cell in cells) + ("  older code" if record["stale"] else ""))
        changes = [_change(column, record, before) for column in columns]
        if any(change is not None for change in changes):
            cells = ["" if c is None else _signed(column, c) for column, c in zip(columns, changes, strict=True)]
            lines.append(f"{'  change':{width + 6}} " + " ".join(f"{cell:>8}" for cell in cells).rstrip())
    return "\n".join([*lines, summary(records)])


STYLE = """:root{color-scheme:dark}
body{font:14px/1.45 system-ui,sans-serif;background:#101317;color:#e6e8eb;margin:0}
main{max-width:2050px;margin:0 auto;padding:18px 24px 60px}a{color:#9cf;text-decoration:none}
h1{font-size:21px;margin:.2em 0}h2{font-size:18px;margin:0}p{margin:.35em 0}.dim,small{color:#99a2ac}
section{border-top:1px solid #333a42;margin-top:34px;padding-top:14px}
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:3px 9px;text-align:right;white-space:nowrap;vertical-align:top}th{color:#99a2ac;font-weight:500}
#all td:first-child,#all th:first-child{text-align:left}#all thead th{border-bottom:1px solid #444c55}
#all tbody tr:hover{background:#1b2027}td small{display:block;font-size:11px;line-height:1.2}
.bad{color:#ff7468;font-weight:600}small.better{color:#7ddc8b}small.worse{color:#ff9a8f}td.told{text-align:left}
.split{font-size:12px;font-weight:400;border-radius:9px;padding:1px 8px;background:#2a313a;color:#c9d0d8}
.test{background:#4a3a16}.dev{background:#1d3d4d}
.key{display:inline-block;width:.85em;height:.85em;margin:0 .35em 0 1.1em;vertical-align:-1px}
.line{height:0;border-top:3px solid;vertical-align:3px}.warn{color:#ffc24b}.error{color:#ff7468;font-size:16px}
figure{margin:8px 0 0}figcaption{font-size:12px;color:#99a2ac}img{display:block;max-width:100%;background:#000}
.pair{display:flex;gap:14px;flex-wrap:wrap}.pair>figure{flex:1 1 0;min-width:420px}
.was{box-shadow:-6px 0 0 -2px #b08a2e}"""


def html_of(records: Records, before: Before) -> str:
    """The page: a table with one row per scan, then one section per scan. Pictures are in the folders beside it."""
    columns = _shown(records)
    head = "".join(f'<th title="{html.escape(c.about)}">{html.escape(c.title)}</th>' for c in columns)
    rows = "".join(_row(record, before, columns) for record in records)
    beside = "<p>Small figures: change since the earlier run, whose pictures are shown below with a bar.</p>"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Real scans</title>'
        f"<style>{STYLE}</style></head><body><main>"
        f"<h1>Real scans, lungs found automatically</h1><p>{summary(records)}</p>{_keys()}"
        f"{beside if before else ''}"
        f'<div class="wide"><table id="all"><thead><tr><th>scan</th><th>split</th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{''.join(_section(r, before) for r in records)}</main></body></html>\n"
    )


def _keys() -> str:
    def keys(named: dict[str, Colour], kind: str) -> str:
        style = "border-color" if kind else "background"
        return "".join(f'<span class="key{kind}" style="{style}:rgb{c}"></span>{name}' for name, c in named.items())

    return (
        f"<p>{keys({'right lung': SIDES[1], 'left lung': SIDES[2]}, ' line')}"
        f"{keys({label.title: label.colour for label in LESIONS}, '')} (lung window)"
        f"{keys({FAULT_NAMES[fault]: colour for fault, colour in FAULTS.items()}, '')}"
        ' (soft tissue)</p><p class="dim">The patient\'s right is on the left; axial planes from head to feet; the '
        "number is the plane's index, counted from feet, front and right. Volumes in mL, classes in % of the lungs.</p>"
    )


def _cell(column: Column, record: dict[str, Any], before: Before) -> str:
    value, change = record["figures"].get(column.key), _change(column, record, before)
    small = ""
    if change is not None and (text := _signed(column, change)) != "=":
        kind = "" if not column.better else "better" if change * column.better > 0 else "worse"
        small = f'<small class="{kind}">{text}</small>'
    return f"<td{' class=bad' if column.bad(value) else ''}>{column.text(value)}{small}</td>"


def _row(record: dict[str, Any], before: Before, columns: list[Column]) -> str:
    name = html.escape(record["name"])
    stale = "<small>older code</small>" if record["stale"] else ""
    first = f'<td><a href="#{name}">{name}</a>{stale}</td><td>{_split(record)}</td>'
    if record["error"]:
        text = html.escape(record["error"])
        return f'<tr>{first}<td class="bad told" colspan="{len(columns)}">{text}</td></tr>'
    return f"<tr>{first}{''.join(_cell(column, record, before) for column in columns)}</tr>"


def _split(record: dict[str, Any]) -> str:
    return f'<span class="split {record["split"]}">{record["split"]}</span>' if record["split"] else ""


def _section(record: dict[str, Any], before: Before) -> str:
    name, old = html.escape(record["name"]), before.get(record["name"])
    notes = "".join(f'<p class="warn">{html.escape(text)}</p>' for text in record["warnings"])
    if record["error"]:
        notes = f'<p class="error">{html.escape(record["error"])}</p>'
    if old and old["error"]:
        notes += f'<p class="dim">Earlier: {html.escape(old["error"])}</p>'
    columns = _shown([record])
    figures = "".join(f"<th>{html.escape(column.title)}</th>" for column in columns)
    figures += "</tr><tr>" + "".join(_cell(column, record, before) for column in columns)
    table = "" if record["error"] else f'<div class="wide"><table><tr>{figures}</tr></table></div>'
    strips = ""
    if record["grid"]:
        axial, *others = (_strips(record["name"], plane, bool(old and old["grid"])) for plane in PLANES)
        strips = "".join(axial) + "".join(f'<div class="pair">{a}{b}</div>' for a, b in zip(*others, strict=True))
    grid = html.escape(record["grid"] or "")
    return (
        f'<section id="{name}"><h2>{name} {_split(record)} <small>{grid}</small></h2>{notes}{table}{strips}'
        '<p><a href="#all">back to the table</a></p></section>'
    )


def _strips(name: str, plane: str, twice: bool) -> list[str]:
    """Both windows of a plane, each followed by that of the earlier run."""
    found = []
    for window in WINDOWS:
        for folder in ("", "before/")[: 1 + twice]:
            path = html.escape(f"{name}/{folder}{plane}_{window}.png")
            kind = f"{plane}, {'lung' if window == 'lung' else 'soft-tissue'} window"
            image = f'<a href="{path}"><img loading="lazy" alt="{name}: {kind}" src="{path}"></a>'
            caption = f"{kind}, earlier run" if folder else kind
            found.append(f"<figure{' class=was' if folder else ''}>{image}<figcaption>{caption}</figcaption></figure>")
    return found
