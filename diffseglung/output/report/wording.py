"""Sentences for the report on how a result was made, ready for a methods section."""

from __future__ import annotations

import json
from typing import Any

from diffseglung import __version__
from diffseglung.tissue.methods import WITHOUT_MODEL

CITATION = (
    f"DiffSegLung contributors. DiffSegLung, version {__version__} (software, Apache-2.0), after: DiffSegLung: "
    "Diffusion Radiomic Distillation for Unsupervised Lung Pathology Segmentation. MICCAI 2026."
)
RULE = (
    "a rule on local density statistics, smoothed within the lungs: healthy lung, emphysema, ground-glass opacity, "
    "fibrosis or consolidation"
)
LEARNED = (
    "a classifier trained by a rule on local density statistics, without annotations: healthy lung, emphysema, "
    "ground-glass opacity, fibrosis or consolidation"
)
STUDENT = (
    "a network trained on synthetic lesions, without annotations, combined with a rule on local density statistics: "
    "healthy lung, emphysema, ground-glass opacity, fibrosis or consolidation"
)


def methods(run: dict[str, Any], spacing_mm: tuple[float, float, float]) -> str:
    """A paragraph for a methods section, from the record only.  spacing_mm: of the scan (z, y, x)."""
    settings, scan, model = run.get("settings", {}), run.get("scan", {}), run.get("model")
    method = settings.get("method", "unknown")
    z, y, x = spacing_mm
    grid = settings.get("spacing_mm")
    sentences = [
        f"Lung tissue was labelled with DiffSegLung {__version__} (method {method!r}) on a CT of "
        f"{x:.2f} x {y:.2f} x {z:.2f} mm voxels.",
        "The lung mask was supplied." if scan.get("lung_mask") == "given" else _finder(run.get("lung_tool")),
    ]
    if grid is not None:
        level = scan.get("healthy_level_hu")
        known = "" if level is None else f", with healthy lung of this scan at {level:.0f} HU"
        if own := scan.get("lung_levels_hu"):
            known = f", with healthy lung at {own[0]:.0f} HU in the right and {own[1]:.0f} HU in the left lung"
        sentences.append(f"Densities were aligned to a common scale on a {grid:g} mm grid{known}.")
    sentences.append(f"Each voxel was assigned a class by {_labeller(method)}.")
    if model:
        sentences.append(f"The model was {model['name']} (SHA-256 {str(model['sha256'])[:16]}).")
    sentences.append(
        "Low-attenuation areas are shares of lung voxels below -950, -910 and -856 HU; the high-attenuation area is "
        "the share from -600 to -250 HU. Vessels and small airways inside the lung mask count as lung. "
        "The software is for research use only."
    )
    return " ".join(sentences)


def _labeller(method: str) -> str:
    """The method that assigned the classes, in words."""
    if method == "student":
        return STUDENT
    return RULE if method in WITHOUT_MODEL else LEARNED


def _finder(tool: dict[str, Any] | None) -> str:
    """The sentence on how the lungs were found."""
    if not tool:
        return "The lungs were found automatically."
    version = f" {tool['version']}" if tool.get("version") else ""
    return (
        f"The lungs were found by {tool['name']}{version} (model {tool['model']}), third-party software under its own "
        "licence."
    )


def settings_rows(run: dict[str, Any]) -> list[tuple[str, str]]:
    """Everything that determines the result, as names and values."""
    rows = [(name, _plain(value)) for name, value in sorted(run.get("settings", {}).items())]
    if model := run.get("model"):
        rows += [(f"model {name}", _plain(value)) for name, value in model.items()]
    rows += [(name.replace("_", " "), _plain(value)) for name, value in run.get("scan", {}).items()]
    return rows


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
