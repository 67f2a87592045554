"""The report's page: pictures, tables and charts in one file of limited size."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from diffseglung import __version__
from diffseglung.labels import LESIONS, TISSUES
from diffseglung.output.report import charts, stacks, wording
from diffseglung.output.selfcontained import embedded, source_of
from diffseglung.output.statistics import LAA_HU, SIDES
from diffseglung.segmentation import Segmentation

LIMIT_BYTES = 8_000_000
QUALITIES = (60, 45, 30)
"""JPEG qualities; the first that keeps the file below LIMIT_BYTES is used, else the last."""
WINDOWS = {"lung": (-1350, 150), "mediastinum": (-160, 240), "emphysema": (-1050, -750)}
"""Name -> lowest and highest HU shown. Lung: level -600, width 1500; mediastinum: level 40, width 400."""
UNKNOWN = "\N{EN DASH}"
STATIC = "diffseglung.output.report"


def report(segmentation: Segmentation) -> str:
    """The whole page as text.  Text from files is escaped."""
    reduced = stacks.reduce(segmentation)
    values = _values(segmentation)
    for quality in QUALITIES:
        text: str = _template().render(**values, data=_data(reduced, quality))
        if len(text) <= LIMIT_BYTES:
            break
    return text


def _template() -> Any:
    environment = Environment(
        loader=PackageLoader(STATIC, "static"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"percent": _percent, "number": _number}
    return environment.get_template("report.html.j2")


def _values(segmentation: Segmentation) -> dict[str, Any]:
    """The values of the template, except the pictures."""
    run, statistics = segmentation.run, segmentation.statistics
    script, style = _static("report.js"), _static("report.css")
    return {
        "title": str(run.get("input") or "Chest CT"),
        "version": __version__,
        "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "method": run.get("settings", {}).get("method", "unknown"),
        "identifiers": (run.get("source") or {}).get("identifiers", {}),
        "warnings": [str(warning) for warning in run.get("warnings", [])],
        "lung_score": (run.get("lung_quality") or {}).get("score"),
        "tissues": [{"id": t.id, "name": t.name, "title": t.title, "colour": charts.hex_colour(t)} for t in TISSUES],
        "statistics": statistics,
        "sides": list(SIDES),
        "largest": _largest(statistics),
        "densities": _densities(statistics["lung"]),
        "histogram": charts.histogram_svg(charts.histogram(segmentation)),
        "windows": list(WINDOWS),
        "has_certainty": segmentation.certainty is not None,
        "methods": wording.methods(run, segmentation.ct.spacing_mm),
        "citation": wording.CITATION,
        "settings": wording.settings_rows(run),
        "script": script,
        "style": style,
        "script_source": source_of(script),
        "style_source": source_of(style),
    }


def _data(reduced: stacks.Reduced, quality: int) -> str:
    """The JSON data of the script."""
    data = {
        "stacks": [stacks.axial(reduced, quality), stacks.coronal(reduced, quality)],
        "hu_low": stacks.HU_LOW,
        "hu_step": stacks.HU_STEP,
        "label_step": stacks.LABEL_STEP,
        "windows": WINDOWS,
        "classes": [{"id": t.id, "title": t.title, "colour": list(t.colour)} for t in TISSUES],
        "amounts": [[round(float(ml), 2) for ml in row] for row in reduced.amounts_ml[::-1]],
        "lesions": [label.id for label in LESIONS],
        "first": int(reduced.slices[-1]) + 1,
    }
    return embedded(data)


def _densities(lung: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """Rows of the densitometry table: name, then values of both lungs, right, left."""
    parts = [lung, *(lung[side] for side in SIDES)]
    rows = [
        ("Lung volume", [_number(None if p["volume_ml"] is None else p["volume_ml"] / 1000, 2, " L") for p in parts]),
        ("Mean density", [_number(p["mean_lung_density_hu"], 0, " HU") for p in parts]),
        ("15th percentile", [_number(p["percentiles_hu"]["15"], 0, " HU") for p in parts]),
    ]
    rows += [(f"LAA{limit} (below {limit} HU)", [_percent(p[f"LAA{limit}"]) for p in parts]) for limit in LAA_HU]
    return [*rows, ("HAA (-600 to -250 HU)", [_percent(p["HAA"]) for p in parts])]


def _largest(statistics: dict[str, Any]) -> float:
    """The share of a lung at which the bar of a lesion is full."""
    shares = [statistics[label.name][side]["fraction_of_lung"] or 0.0 for label in LESIONS for side in SIDES]
    return max(0.1, *shares)


def _percent(fraction: float | None) -> str:
    return UNKNOWN if fraction is None else f"{100 * fraction:.1f} %"


def _number(value: float | None, digits: int = 0, unit: str = "") -> str:
    return UNKNOWN if value is None else f"{value:,.{digits}f}{unit}"


def _static(name: str) -> str:
    return resources.files(STATIC).joinpath("static", name).read_text(encoding="utf-8")
