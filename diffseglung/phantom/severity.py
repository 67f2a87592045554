"""Severity of disease in a case: number, size and contrast of the lesions."""

from __future__ import annotations

from dataclasses import dataclass

from diffseglung.labels import EMPHYSEMA, FIBROSIS, GGO, Label
from diffseglung.phantom.record import Draw
from diffseglung.platform.errors import ConfigError

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Severity:
    """One degree of severity.

    count:    lesions of each model, minimum and maximum.
    size:     factor on the usual radius of a model, minimum and maximum.
    strength: by label id, range of the factor (0..1) on a lesion's change of the tissue; 1 if absent.
    """

    name: str
    count: tuple[int, int]
    size: Range
    strength: dict[int, Range]

    def lesions_of(self, draw: Draw, model: str) -> int:
        """Number of lesions of a model."""
        return draw.count(f"{self.name}_lesions_{model}", *self.count)

    def radius_mm(self, draw: Draw, usual_mm: Range) -> Range:
        """Range of radii of one lesion."""
        factor = draw.uniform(f"{self.name}_size", *self.size)
        return usual_mm[0] * factor, usual_mm[1] * factor

    def kept(self, draw: Draw, label: Label) -> float:
        """Factor on the change of one lesion."""
        span = self.strength.get(label.id)
        return draw.uniform(f"{self.name}_strength_{label.name}", *span) if span else 1.0


FAINT = {GGO.id: (0.6, 0.85), EMPHYSEMA.id: (0.5, 0.8), FIBROSIS.id: (0.6, 0.85)}
"""Consolidation is absent: a faint one would be ground glass, so it only gets smaller."""
SEVERITIES = {
    "subtle": Severity(name="subtle", count=(1, 2), size=(0.4, 0.6), strength=FAINT),
    "moderate": Severity(name="moderate", count=(1, 3), size=(0.8, 1.1), strength={}),
    "extensive": Severity(name="extensive", count=(3, 4), size=(1.05, 1.3), strength={}),
}


def severity_of(name: str) -> Severity | None:
    """The degree of that name; None for "any", lesions as their models define them."""
    if name == "any":
        return None
    if name not in SEVERITIES:
        raise ConfigError(f"severity is {name!r}", remedy=f"choose one of any, {', '.join(SEVERITIES)}")
    return SEVERITIES[name]
