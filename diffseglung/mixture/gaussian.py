"""Gaussian mixture with full covariances: density, responsibilities, EM with several starts, BIC.

log p(x) = log sum_k w_k N(x; m_k, S_k); EM as in Bishop 2006, sec. 9.2.2; k-means++ starts (Arthur & Vassilvitskii
2007); BIC of Schwarz 1978. Rows are float32, sums are kept in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffseglung.errors import InputError
from diffseglung.runtime import generator

CHUNK = 65536


@dataclass(frozen=True, eq=False)
class Mixture:
    """weights (K,), means (K, F), covariances (K, F, F)."""

    weights: Tensor
    means: Tensor
    covariances: Tensor

    def log_joint(self, rows: Tensor) -> Tensor:
        """log(w_k N(x_n; m_k, S_k)), (N, K)."""
        factor = torch.linalg.cholesky(self.covariances.double())  # (K, F, F)
        whiten = torch.linalg.solve_triangular(
            factor, torch.eye(factor.shape[-1], dtype=torch.float64).expand_as(factor), upper=False
        )
        constant = (
            self.weights.double().log()
            - factor.diagonal(dim1=1, dim2=2).log().sum(1)
            - 0.5 * rows.shape[1] * math.log(2 * math.pi)
        )
        columns = []
        for k in range(len(self.weights)):
            z = (rows - self.means[k].to(rows.dtype)) @ whiten[k].T.to(rows.dtype)
            columns.append(constant[k].to(rows.dtype) - 0.5 * z.square().sum(1))
        return torch.stack(columns, dim=1)

    def responsibilities(self, rows: Tensor) -> Tensor:
        """p(k | x_n), (N, K); rows sum to 1."""
        return torch.cat([self.log_joint(part).softmax(1) for part in torch.split(rows, CHUNK)])

    def log_likelihood(self, rows: Tensor) -> float:
        """Mean log density of the rows."""
        parts = torch.split(rows, CHUNK)
        return sum(float(self.log_joint(part).logsumexp(1).double().sum()) for part in parts) / len(rows)

    def bic(self, rows: Tensor) -> float:
        """-2 log L + p log N; lower is better."""
        k, f = self.means.shape
        free = (k - 1) + k * f + k * f * (f + 1) // 2
        return -2 * self.log_likelihood(rows) * len(rows) + free * math.log(len(rows))


def kmeans_plus_plus(rows: Tensor, k: int, random: torch.Generator) -> Tensor:
    """K start centres (K, F), each drawn with probability proportional to its squared distance to those before."""
    first = int(torch.randint(len(rows), (1,), generator=random))
    centres, distance = [rows[first]], (rows - rows[first]).square().sum(1)
    for _ in range(k - 1):
        chance = distance.clamp(min=0).double()
        chance = chance if float(chance.sum()) > 0 else torch.ones_like(chance)
        place = torch.rand(1, generator=random, dtype=torch.float64) * chance.sum()
        pick = int(torch.searchsorted(chance.cumsum(0), place).clamp(max=len(rows) - 1))
        centres.append(rows[pick])
        distance = torch.minimum(distance, (rows - rows[pick]).square().sum(1))
    return torch.stack(centres)


def maximise(rows: Tensor, responsibility: Tensor, ridge: float) -> Mixture:
    """M step: the mixture that soft memberships (N, K) describe; `ridge` is added to each variance."""
    k, f = responsibility.shape[1], rows.shape[1]
    mass = responsibility.double().sum(0).clamp(min=1e-8)
    means = (responsibility.T @ rows).double() / mass[:, None]
    covariances = torch.empty(k, f, f, dtype=torch.float64)
    for j in range(k):
        centred = rows - means[j].to(rows.dtype)
        covariances[j] = ((centred * responsibility[:, j, None]).T @ centred).double() / mass[j]
    covariances += ridge * torch.eye(f, dtype=torch.float64)
    return Mixture(mass / mass.sum(), means, covariances)


def em(rows: Tensor, start: Mixture, *, iterations: int = 100, tolerance: float = 1e-4, ridge: float = 1e-4) -> Mixture:
    """EM from a start until the mean log-likelihood gains less than `tolerance`."""
    mixture, before = start, -math.inf
    for _ in range(iterations):
        joint = mixture.log_joint(rows)
        total = joint.logsumexp(1, keepdim=True)
        now = float(total.double().mean())
        if now - before < tolerance:
            break
        before = now
        mixture = maximise(rows, (joint - total).exp(), ridge)
    return mixture


def fit(rows: Tensor, k: int, *, seed: int = 0, starts: int = 4, ridge: float = 1e-4) -> Mixture:
    """Best of several k-means++ starts by likelihood.

    Raises InputError when there are fewer rows than components.
    """
    if len(rows) < max(k, 2):
        raise InputError(
            f"{len(rows)} feature vectors cannot carry {k} components", remedy="use a larger scan or fewer components"
        )
    fits = []
    for start in range(starts):
        centres = kmeans_plus_plus(rows, k, generator(seed, k, start))
        for _ in range(10):
            nearest = torch.cdist(rows, centres).argmin(1)
            hard = torch.nn.functional.one_hot(nearest, k).to(rows.dtype)
            mass = hard.sum(0)
            centres = torch.where(mass[:, None] > 0, (hard.T @ rows) / mass.clamp(min=1)[:, None], centres)
        fits.append(em(rows, maximise(rows, hard, ridge), ridge=ridge))
    return max(fits, key=lambda mixture: mixture.log_likelihood(rows))


def fit_by_bic(rows: Tensor, low: int = 2, high: int = 8, *, seed: int = 0) -> Mixture:
    """The mixture of `low` to `high` components with the lowest BIC."""
    fits = [fit(rows, k, seed=seed, starts=2) for k in range(low, high + 1) if len(rows) >= k]
    return min(fits, key=lambda mixture: mixture.bic(rows))
