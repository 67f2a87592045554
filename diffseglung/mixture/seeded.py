"""A mixture whose components belong to tissues from the start: several Gaussians a class, seeded by soft labels.

Free EM continued from good seeds lets healthy lung and emphysema dissolve into each other, so each class is fitted on
its own rows only and the components keep their owner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from diffseglung.errors import InputError
from diffseglung.mixture.gaussian import Mixture, fit

MOST_ROWS = 12000
"""Rows of a class that its Gaussians are fitted on, evenly taken: more change nothing but the time."""


@dataclass(frozen=True, eq=False)
class SeededMixture:
    """mixture: K Gaussians;  owner: (K,) the class that each belongs to;  classes: how many classes there are."""

    mixture: Mixture
    owner: Tensor
    classes: int

    @classmethod
    def fit(
        cls,
        rows: Tensor,
        label: Tensor,
        classes: int,
        *,
        components: int = 3,
        prior: Tensor | None = None,
        seed: int = 0,
    ) -> Self:
        """From rows (N, F) and their seed labels (N,) in 0..classes-1 (negative: leave out).

        prior: (classes,) class shares; None makes them equal, so that rare tissues are not swallowed.
        """
        weights, means, covariances, owner = [], [], [], []
        shares = torch.full((classes,), 1.0 / classes) if prior is None else prior
        for c in range(classes):
            mine = rows[label == c]
            mine = mine[torch.linspace(0, len(mine) - 1, min(len(mine), MOST_ROWS)).long()]
            if len(mine) < 10 * rows.shape[1]:
                continue
            part = fit(mine, components, seed=seed, starts=2, ridge=1e-2)
            weights.append(part.weights * float(shares[c]))
            means.append(part.means)
            covariances.append(part.covariances)
            owner += [c] * components
        if not weights:
            raise InputError(
                "no tissue has enough sure positions to fit a mixture", remedy="give more scans, or more rows of each"
            )
        total = torch.cat(weights)
        return cls(Mixture(total / total.sum(), torch.cat(means), torch.cat(covariances)), torch.tensor(owner), classes)

    def posterior(self, rows: Tensor) -> Tensor:
        """p(class | x), (N, classes): responsibilities summed over each class's components."""
        membership = torch.nn.functional.one_hot(self.owner, self.classes).to(rows.dtype)
        return self.mixture.responsibilities(rows) @ membership
