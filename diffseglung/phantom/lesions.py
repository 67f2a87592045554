"""The lesion models, the splits that may use them, and how a set of lesions is drawn into a chest."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffseglung.labels import CONSOLIDATION, EMPHYSEMA, FIBROSIS, GGO, Label
from diffseglung.phantom import airless, airspace, destruction, scarring
from diffseglung.phantom.record import ChestParts, Draw
from diffseglung.phantom.region import Region, place
from diffseglung.phantom.severity import severity_of
from diffseglung.platform.errors import ConfigError


@dataclass(frozen=True)
class Model:
    """One appearance of a pathology.  splits: those that may draw it.  site: where it lies.  radius_mm: usual range."""

    name: str
    label: Label
    splits: tuple[str, ...]
    site: str
    radius_mm: tuple[float, float]
    paint: Callable[[Region, Draw], None]


ALL, TRAIN, DEV, TEST = ("train", "dev", "test"), ("train",), ("dev",), ("test",)
MODELS = (
    Model("ggo_geographic", GGO, ("train", "dev"), "any", (18, 42), airspace.geographic),
    Model("ggo_nodular", GGO, ("train", "test"), "any", (16, 34), airspace.nodular),
    Model("ggo_crazy_paving", GGO, ("dev", "test"), "any", (20, 40), airspace.crazy_paving),
    Model("ggo_faint_gradient", GGO, TEST, "posterior", (26, 50), airspace.faint_gradient),
    Model("consolidation_lobar", CONSOLIDATION, ("train", "test"), "any", (20, 40), airless.lobar),
    Model("consolidation_patchy", CONSOLIDATION, ("train", "dev"), "peripheral", (12, 28), airless.patchy),
    Model("consolidation_organising", CONSOLIDATION, TEST, "peripheral", (16, 30), airless.organising),
    Model("emphysema_centrilobular", EMPHYSEMA, ("train", "test"), "upper", (24, 48), destruction.centrilobular),
    Model("emphysema_panlobular", EMPHYSEMA, ("train", "dev"), "lower", (28, 55), destruction.panlobular),
    Model("emphysema_paraseptal", EMPHYSEMA, ("dev", "test"), "upper_rim", (22, 40), destruction.paraseptal),
    Model("emphysema_bullous", EMPHYSEMA, TEST, "upper_rim", (20, 36), destruction.bullous),
    Model("fibrosis_reticulation", FIBROSIS, ("train", "dev"), "basal_rim", (26, 48), scarring.reticulation),
    Model("fibrosis_sparse", FIBROSIS, ("train", "dev"), "basal_rim", (26, 48), scarring.sparse),
    Model("fibrosis_honeycomb", FIBROSIS, ALL, "basal_rim", (20, 40), scarring.honeycomb),
    Model("fibrosis_traction", FIBROSIS, TEST, "posterior", (24, 42), scarring.traction),
)


def models_for(split: str, label: Label) -> list[Model]:
    """Models of a label that a split may draw."""
    return [model for model in MODELS if split in model.splits and model.label == label]


def check_models(names: tuple[str, ...]) -> None:
    """Raise ConfigError for an unknown model."""
    known = [m.name for m in MODELS]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            remedy = f"did you mean {near[0]}?" if near else f"known models: {', '.join(known)}"
            raise ConfigError(f"there is no lesion model {name!r}", remedy=remedy)


def add(
    parts: ChestParts, draw: Draw, *, names: tuple[str, ...] | None = None, severity: str = "any"
) -> list[dict[str, Any]]:
    """Draw a set of lesions into the chest, in place; returns one record per lesion.

    names: models to draw; None draws a random mix of the split: each pathology with probability 0.75, at least one.
    severity: number, size and contrast of the lesions; "any" draws each model once, at its usual size.
    """
    check_models(names or ())
    degree = severity_of(severity)
    chosen = [m for m in MODELS if m.name in names] if names is not None else _mix(draw)
    if degree is not None:
        chosen = [m for m in dict.fromkeys(chosen) for _ in range(degree.lesions_of(draw, m.name))]
    # lesions with more gas first: consolidation hides what it covers
    order = {EMPHYSEMA.id: 0, FIBROSIS.id: 1, GGO.id: 2, CONSOLIDATION.id: 3}
    records = []
    for model in sorted(chosen, key=lambda m: order[m.label.id]):
        record: dict[str, Any] = {"model": model.name, "label": model.label.name}
        own = draw.inside(record)
        radius_mm = model.radius_mm if degree is None else degree.radius_mm(own, model.radius_mm)
        region = place(parts, own, model.site, radius_mm)
        if region is None:
            continue
        before = parts.truth[region.box] == model.label.id
        _paint(model, region, own, 1.0 if degree is None else degree.kept(own, model.label))
        after: NDArray[np.bool_] = parts.truth[region.box] == model.label.id
        record["added_ml"] = round(float((after & ~before).sum() * np.prod(parts.spacing_mm) / 1000), 3)
        records.append(record)
    return records


def _paint(model: Model, region: Region, draw: Draw, strength: float) -> None:
    """Draw a lesion, and scale its change of the tissue by `strength` (0..1); its extent stays."""
    tissue = (region.parenchyma, region.vessels, region.parts.lumen[region.box])
    before = [part.copy() for part in tissue] if strength < 1 else []
    model.paint(region, draw)
    for part, old in zip(tissue, before, strict=False):
        part[:] = old + np.float32(strength) * (part - old)


def _mix(draw: Draw) -> list[Model]:
    """A random mix of models of the split."""
    chosen: list[Model] = []
    labels = [label for label in (EMPHYSEMA, GGO, FIBROSIS, CONSOLIDATION) if draw.chance(f"has_{label.name}", 0.75)]
    for label in labels or [GGO]:
        options = models_for(draw.split, label)
        for _ in range(draw.count(f"lesions_{label.name}", 1, 4)):
            chosen.append(options[int(draw.rng.integers(len(options)))])
    return chosen
