"""Fit the tissue models of every learned method on an unlabelled cohort.

Each scan gives rows and the physics rule's opinion of them; no label map is ever read. Scans weigh the same: each
contributes at most `rows_per_scan` positions, drawn with the seed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from diffseglung.labelling.methods import Rows
from diffseglung.labelling.physics import physics_posterior
from diffseglung.labelling.tissue import TissueFitConfig, TissueModel
from diffseglung.runtime import generator

DIFFUSION_DIMENSIONS = 48


@dataclass(eq=False)
class Cohort:
    """Rows gathered from many scans: local descriptors, diffusion features (if asked for) and physics posteriors."""

    rows_per_scan: int = 20000
    with_diffusion: bool = True
    seed: int = 0
    local: list[Tensor] = field(default_factory=list)
    diffusion: list[Tensor] = field(default_factory=list)
    physics: list[Tensor] = field(default_factory=list)

    def add(self, rows: Rows) -> None:
        """Take a scan's share. Half of it is spread evenly over the tissues that physics sees, half over the lung."""
        opinion = torch.from_numpy(physics_posterior(rows.local.numpy()))
        label = opinion.argmax(1)
        share = 1.0 / torch.bincount(label, minlength=opinion.shape[1]).clamp(min=1).float()
        weight = 0.5 * share[label] / share[label].sum() + 0.5 / len(label)
        count = min(self.rows_per_scan, len(label))
        pick = torch.multinomial(weight, count, generator=generator(self.seed, len(self.physics)))
        self.local.append(rows.shaped[pick])
        self.physics.append(opinion[pick])
        if self.with_diffusion:
            self.diffusion.append(rows.diffusion[pick])

    def fit(self, config: TissueFitConfig | None = None) -> dict[str, TissueModel]:
        """Tissue models by method: `seeded`, and with diffusion features also `diffusion` and `combined`."""
        config = config or TissueFitConfig()
        local, seeds = torch.cat(self.local), torch.cat(self.physics)
        tissues = {"seeded": TissueModel.fit(local, seeds, dimensions=None, config=config)}
        if self.with_diffusion:
            deep = torch.cat(self.diffusion)
            dimensions = min(DIFFUSION_DIMENSIONS, deep.shape[1])
            tissues["diffusion"] = TissueModel.fit(deep, seeds, dimensions=dimensions, config=config)
            both = torch.cat([local, tissues["diffusion"].projection(deep)], dim=1)
            tissues["combined"] = TissueModel.fit(both, seeds, dimensions=None, config=config)
        return tissues


def gather(scans: Iterable[Rows], cohort: Cohort) -> Cohort:
    """Add every scan of an iterable."""
    for rows in scans:
        cohort.add(rows)
    return cohort
