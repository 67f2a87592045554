"""The model card: what is needed to use weights on a new scan as they were trained.

It is stored in the weights file as JSON. `schema` defines it (JSON Schema 2020-12, also in
docs/reference/model-card.schema.json); cards of older formats are migrated step by step.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from diffseglung.labels import TISSUES
from diffseglung.platform import serialization
from diffseglung.platform.config import Config, DiffusionConfig, DistillConfig, IntensityConfig, PatchConfig, UNetConfig
from diffseglung.platform.errors import CheckpointError, ConfigError

FORMAT = 2
PREPROCESSING = 1
"""Version of the preprocessing: canonical axes, isotropic resampling, HU window.

Raised when existing weights no longer fit its output.
"""
LABELS = {label.name: label.id for label in TISSUES}
PARTS: dict[str, type[Config]] = {
    "unet": UNetConfig, "diffusion": DiffusionConfig, "patch": PatchConfig, "intensity": IntensityConfig,
    "distill": DistillConfig,
}  # fmt: skip
REMEDY = "use weights written by this version of diffseglung train or distill"


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """Settings and origin of the weights.

    stage: 1 diffusion only, 2 distilled, 3 trained to label tissue.  iteration: optimiser updates so far.
    labels: name -> id of the classes of its tissue models.  preprocessing: see `PREPROCESSING`.
    training: record of the training (case names, seed, seconds, versions, ...): plain JSON values.
    """

    unet: UNetConfig
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    patch: PatchConfig = field(default_factory=PatchConfig)
    intensity: IntensityConfig = field(default_factory=IntensityConfig)
    distill: DistillConfig | None = None
    stage: int = 1
    iteration: int = 0
    name: str = "unnamed"
    labels: dict[str, int] = field(default_factory=lambda: dict(LABELS))
    preprocessing: int = PREPROCESSING
    training: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, with the format number."""
        values = {name: value.to_dict() if isinstance(value, Config) else value for name, value in vars(self).items()}
        return {"format": FORMAT, **values}

    def to_json(self) -> str:
        """The card as JSON."""
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Inverse of `to_json`, for this and older formats.  Raises CheckpointError."""
        try:
            entries = _migrated(serialization.parse(text))
            unknown = sorted(entries.keys() - schema()["properties"].keys())
            if unknown:
                raise ValueError(f"unknown entry {unknown[0]!r}")
            configs: dict[str, Any] = {
                name: kind.from_dict(entries[name])
                for name, kind in PARTS.items()
                if name != "distill" or entries[name] is not None
            }
            return cls(
                **configs,
                stage=_among(entries, "stage", (1, 2, 3)),
                iteration=_number(entries, "iteration"),
                name=_text(entries, "name"),
                labels={name: _number(entries["labels"], name, least=1) for name in _mapping(entries, "labels")},
                preprocessing=_number(entries, "preprocessing"),
                training=_mapping(entries, "training"),
            )
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, ConfigError) as cause:
            raise CheckpointError(f"the model card cannot be read ({cause})", remedy=REMEDY) from cause

    def check_use(self, spacing_mm: float) -> None:
        """Raise CheckpointError if the model was trained for other labels, preprocessing or voxels of `spacing_mm`.

        A spacing of 0 (patches on each scan's own grid, as published) fits any.
        """
        if self.labels != LABELS:
            raise CheckpointError(
                f"model {self.name!r} distinguishes {_listed(self.labels)}, this version {_listed(LABELS)}",
                remedy="use the version of diffseglung that made it, or fit its tissue models again",
            )
        if self.preprocessing != PREPROCESSING:
            raise CheckpointError(
                f"model {self.name!r} expects preprocessing {self.preprocessing}, this version has {PREPROCESSING}",
                remedy="use the version of diffseglung that made it, or train it again",
            )
        if self.patch.spacing_mm > 0 and abs(self.patch.spacing_mm - spacing_mm) > 1e-6:
            raise CheckpointError(
                f"model {self.name!r} was trained on voxels of {self.patch.spacing_mm:g} mm, not of {spacing_mm:g} mm",
                remedy=f"label at {self.patch.spacing_mm:g} mm, or train a model at {spacing_mm:g} mm",
            )


def schema() -> dict[str, Any]:
    """JSON Schema of a card in the current format."""
    properties: dict[str, Any] = {
        "format": {"const": FORMAT},
        "name": {"type": "string"},
        "stage": {"enum": [1, 2, 3]},
        "iteration": {"type": "integer", "minimum": 0},
        **{name: kind.schema() for name, kind in PARTS.items()},
        "labels": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 1}},
        "preprocessing": {"type": "integer", "minimum": 0},
        "training": {"type": "object"},
    }
    properties["distill"] = {"anyOf": [{"type": "null"}, properties["distill"]]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Model card of DiffSegLung",
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _from_format_1(entries: dict[str, Any]) -> dict[str, Any]:
    """Format 1 had a single table of labels and a single preprocessing, and did not state them."""
    return {
        **entries,
        "format": 2,
        "labels": {"healthy": 1, "emphysema": 2, "ggo": 3, "fibrosis": 4, "consolidation": 5},
        "preprocessing": 1,
    }


MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_format_1}
"""Format -> migration of a card to the next one."""


def _migrated(entries: Any) -> dict[str, Any]:
    found = entries["format"]
    while type(entries["format"]) is int and entries["format"] in MIGRATIONS:
        entries = MIGRATIONS[entries["format"]](entries)
    if type(entries["format"]) is not int or entries["format"] != FORMAT:
        raise CheckpointError(
            f"the weights are in format {found}, this version reads formats up to {FORMAT}",
            remedy="install the version of diffseglung that wrote them, or train again",
        )
    return dict(entries)


def _number(entries: dict[str, Any], name: str, least: int = 0) -> int:
    value = entries[name]
    if type(value) is not int or value < least:
        raise ValueError(f"{name} is {value!r}, not an integer of at least {least}")
    return value


def _among(entries: dict[str, Any], name: str, allowed: tuple[int, ...]) -> int:
    value = _number(entries, name)
    if value not in allowed:
        raise ValueError(f"{name} is {value}, not one of {allowed}")
    return value


def _mapping(entries: dict[str, Any], name: str) -> dict[str, Any]:
    value = entries[name]
    if not isinstance(value, dict):
        raise TypeError(f"{name} is {value!r:.80}, not a mapping")
    return value


def _text(entries: dict[str, Any], name: str) -> str:
    value = entries[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r}, not a string")
    return value


def _listed(labels: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(labels.items(), key=lambda item: item[1]))
