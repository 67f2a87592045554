"""Fit the tissue models of every learned method on a cohort without annotations.

Each scan gives rows and an opinion of them: the physics rule's, corrected by the neighbourhood (`context.py`), or the
truth of simulated lesions where the scan is a phantom. No human label is ever read. Each scan contributes at most
`rows_per_scan` positions, drawn with the seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from diffseglung.platform.config import TissueFitConfig
from diffseglung.platform.runtime import generator
from diffseglung.tissue.classifier import CLASSES, TissueModel
from diffseglung.tissue.methods import Rows
from diffseglung.tissue.smoothed_rule import physics_in_context, sharpened

DIFFUSION_DIMENSIONS = 48
METHODS_OF: dict[str, dict[str, str | None]] = {
    "physics": {"local": "seeded", "diffusion": "diffusion", "joined": "combined"},
    "simulation": {"local": "simulated", "diffusion": None, "joined": "simulated_combined"},
}
"""Teacher -> features -> name of the method that the pair makes (None: not offered)."""


@dataclass(frozen=True, eq=False)
class Lesson:
    """Rows of one scan with what is believed of them: local (n, F), diffusion (n, D) or None, target (n, classes),
    mass (n,): how many positions of the scan each row stands for."""

    local: Tensor
    diffusion: Tensor | None
    target: Tensor
    mass: Tensor


def draw(target: Tensor, count: int, seed: int, *words: int) -> tuple[Tensor, Tensor]:
    """Indices of rows and the mass of each: half spread evenly over the tissues seen, half over the lung."""
    label = target.argmax(1)
    share = 1.0 / torch.bincount(label, minlength=target.shape[1]).clamp(min=1).float()
    chance = 0.5 * share[label] / share[label].sum() + 0.5 / len(label)
    pick = torch.multinomial(chance, min(count, len(label)), generator=generator(seed, *words))
    return pick, 1.0 / (chance[pick] * len(pick)).clamp(max=1.0)


@dataclass(eq=False)
class Cohort:
    """Lessons gathered from many scans, by teacher."""

    rows_per_scan: int = TissueFitConfig().rows_per_scan
    with_diffusion: bool = True
    seed: int = 0
    lessons: dict[str, list[Lesson]] = field(default_factory=lambda: {"physics": [], "simulation": []})

    def add(self, rows: Rows, truth: Tensor | None = None) -> None:
        """Take a scan's share for the physics teacher, and for the simulation teacher where truth is known.

        truth: (N,) class index at each position, -1 where there is none.
        """
        rule = physics_in_context(rows.local.numpy(), rows.where, rows.prepared.spacing_mm)
        self._take("physics", rows, sharpened(rule), None)
        if truth is not None:
            known = truth >= 0
            target = torch.nn.functional.one_hot(truth.clamp(min=0), CLASSES).float()
            self._take("simulation", rows, target, known)

    def _take(self, teacher: str, rows: Rows, target: Tensor, known: Tensor | None) -> None:
        where = torch.arange(len(target)) if known is None else torch.nonzero(known)[:, 0]
        place = len(self.lessons[teacher])
        pick, mass = draw(target[where], self.rows_per_scan, self.seed, place)
        chosen = where[pick]
        deep = rows.diffusion[chosen].half() if self.with_diffusion else None
        self.lessons[teacher].append(Lesson(rows.shaped[chosen], deep, target[chosen], mass))

    def fit(self, config: TissueFitConfig | None = None) -> dict[str, TissueModel]:
        """Tissue models by method name."""
        config = config or TissueFitConfig()
        tissues: dict[str, TissueModel] = {}
        for teacher, lessons in self.lessons.items():
            if lessons:
                tissues |= fit_lessons(lessons, METHODS_OF[teacher], tissues, config)
        return tissues


def fit_lessons(
    lessons: list[Lesson], names: Mapping[str, str | None], known: Mapping[str, TissueModel], config: TissueFitConfig
) -> dict[str, TissueModel]:
    """The tissue models of one teacher. Diffusion features are always projected as the method `diffusion` does."""
    local, target = torch.cat([x.local for x in lessons]), torch.cat([x.target for x in lessons])
    mass = torch.cat([x.mass for x in lessons])
    tissues: dict[str, TissueModel] = {}
    if names["local"]:
        tissues[names["local"]] = TissueModel.fit(local, target, mass, dimensions=None, config=config)
    if any(x.diffusion is None for x in lessons):
        return tissues
    deep = torch.cat([x.diffusion.float() for x in lessons if x.diffusion is not None])
    if names["diffusion"]:
        dimensions = min(DIFFUSION_DIMENSIONS, deep.shape[1])
        tissues[names["diffusion"]] = TissueModel.fit(deep, target, mass, dimensions=dimensions, config=config)
    projection = (
        (known | tissues)["diffusion"].projection if isinstance(known, dict) else tissues["diffusion"].projection
    )
    if names["joined"]:
        both = torch.cat([local, projection(deep)], dim=1)
        tissues[names["joined"]] = TissueModel.fit(both, target, mass, dimensions=None, config=config)
    return tissues
