"""Fit the tissue models of every learned method on a cohort without annotations.

Each scan gives rows and their targets: the physics rule in context (`smoothed_rule`), or the truth of simulated lesions
where the scan is a phantom. No human label is used. Each scan contributes at most `rows_per_scan` positions, drawn with
the seed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from diffseglung.platform.config import TissueFitConfig
from diffseglung.platform.runtime import generator
from diffseglung.tissue.classifier import CLASSES, TissueModel
from diffseglung.tissue.methods import Rows
from diffseglung.tissue.smoothed_rule import physics_in_context, sharpened

DIFFUSION_DIMENSIONS = 48
METHODS_OF = {"physics": ("seeded", "combined"), "simulation": ("simulated", "simulated_combined")}
"""Teacher -> methods on local descriptors, and on these with diffusion features. Physics teaches `diffusion` too."""


@dataclass(frozen=True, eq=False)
class Lesson:
    """Rows of one scan with targets: local (n, F), diffusion (n, D) or None, target (n, classes), mass (n,), the number
    of positions of the scan that each row represents."""

    local: Tensor
    diffusion: Tensor | None
    target: Tensor
    mass: Tensor


def draw(target: Tensor, count: int, seed: int, *words: int) -> tuple[Tensor, Tensor]:
    """Indices of rows and the mass of each: drawn half evenly over the tissues present, half over the lung."""
    label = target.argmax(1)
    share = 1.0 / torch.bincount(label, minlength=target.shape[1]).clamp(min=1).float()
    chance = 0.5 * share[label] / share[label].sum() + 0.5 / len(label)
    pick = torch.multinomial(chance, min(count, len(label)), generator=generator(seed, *words))
    return pick, 1.0 / (chance[pick] * len(pick)).clamp(max=1.0)


@dataclass(eq=False)
class Cohort:
    """Lessons of many scans, by teacher."""

    rows_per_scan: int = TissueFitConfig().rows_per_scan
    with_diffusion: bool = True
    seed: int = 0
    lessons: dict[str, list[Lesson]] = field(default_factory=lambda: {"physics": [], "simulation": []})

    def add(self, rows: Rows, truth: Tensor | None = None) -> None:
        """Add rows of a scan for the physics teacher, and for the simulation teacher where the truth is known.

        truth: (N,) class index at each position, -1 where unknown.
        """
        rule = physics_in_context(rows.local.numpy(), rows.where, rows.prepared.spacing_mm)
        self._take("physics", rows, sharpened(rule), torch.ones(len(rule)))
        if truth is not None:
            target = torch.nn.functional.one_hot(truth.clamp(min=0), CLASSES).float()
            self._take("simulation", rows, target, truth >= 0)

    def _take(self, teacher: str, rows: Rows, target: Tensor, known: Tensor) -> None:
        where = torch.nonzero(known)[:, 0]
        pick, mass = draw(target[where], self.rows_per_scan, self.seed, len(self.lessons[teacher]))
        chosen = where[pick]
        deep = rows.diffusion[chosen].half() if self.with_diffusion else None
        self.lessons[teacher].append(Lesson(rows.shaped[chosen], deep, target[chosen], mass))

    def fit(self, config: TissueFitConfig | None = None) -> dict[str, TissueModel]:
        """Tissue models by method name. Diffusion features are always projected as by the method `diffusion`."""
        config = config or TissueFitConfig()
        tissues: dict[str, TissueModel] = {}
        for teacher, lessons in self.lessons.items():
            if not lessons:
                continue
            on_local, on_both = METHODS_OF[teacher]
            local, target = torch.cat([x.local for x in lessons]), torch.cat([x.target for x in lessons])
            mass = torch.cat([x.mass for x in lessons])
            tissues[on_local] = TissueModel.fit(local, target, mass, dimensions=None, config=config)
            if not self.with_diffusion:
                continue
            deep = torch.cat([x.diffusion.float() for x in lessons if x.diffusion is not None])
            if teacher == "physics":
                dimensions = min(DIFFUSION_DIMENSIONS, deep.shape[1])
                tissues["diffusion"] = TissueModel.fit(deep, target, mass, dimensions=dimensions, config=config)
            both = torch.cat([local, tissues["diffusion"].projection(deep)], dim=1)
            tissues[on_both] = TissueModel.fit(both, target, mass, dimensions=None, config=config)
        return tissues
