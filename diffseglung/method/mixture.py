"""Gaussian mixture with full covariances: density, responsibilities, EM with several starts, BIC.

log p(x) = log sum_k w_k N(x; m_k, S_k); EM as in Bishop 2006, sec. 9.2.2; k-means++ starts (Arthur & Vassilvitskii
2007); BIC of Schwarz 1978.

Rows are a tensor (N, F), or a sequence of tensors (e.g. one per scan) treated as their concatenation; each may be a
memory map (`torch.from_numpy(np.memmap(...))`). EM reads them once per iteration, E and M step together, a few blocks
at a time: memory does not grow with N. Products are float32, of rows minus the mean of the mixture; sums over blocks
are float64. Blocks run on all cores and are added in order: results do not depend on the number of cores.

>>> centres = torch.tensor([[0.0, 0.0], [9.0, 9.0], [0.0, 9.0]])
>>> rows = centres.repeat(100, 1) + torch.randn(300, 2, generator=generator(1))
>>> mixture = fit(rows, 3)
>>> mixture.means.round().int().sort(0).values.tolist()
[[0, 0], [0, 9], [9, 9]]
>>> mixture.responsibilities(rows).shape
torch.Size([300, 3])
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from diffseglung.platform.errors import InputError
from diffseglung.platform.runtime import generator, spread

Rows = Tensor | Sequence[Tensor]
BLOCK = 32_768
"""Rows per partial sum of one core."""
CHUNK = 2048
"""Rows of one matrix product on a CPU: the intermediate results fit into its cache."""
LANES = 16
"""Products are padded to a multiple of this many columns, the width of CPU registers: more than twice as fast."""
START_ROWS = 262_144
"""`fit` tries its starts on at most this many rows, evenly spaced; the best start is continued on all rows."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """weights (K,), means (K, F), covariances (K, F, F)."""

    weights: Tensor
    means: Tensor
    covariances: Tensor

    def responsibilities(self, rows: Tensor) -> Tensor:
        """p(k | x_n), (N, K); rows sum to 1."""
        return self._map(rows, lambda joint: joint.softmax(0))

    def labels(self, rows: Tensor) -> Tensor:
        """The component of largest responsibility, (N,) int64."""
        return self._map(rows, lambda joint: joint.argmax(0, keepdim=True))[:, 0]

    def log_likelihood(self, rows: Rows) -> float:
        """Mean log density of the rows."""
        frame = _Frame.of(self, rows)

        def of_block(block: Tensor) -> Tensor:
            densities = (frame.joint(frame.whiten(x)).logsumexp(0) for x in frame.columns(block))
            return _total(density.sum(dtype=torch.float64) for density in densities)

        return float(_total(spread(of_block, _blocks(rows)))) / _count(rows)

    def bic(self, rows: Rows) -> float:
        """-2 log L + p log N; lower is better."""
        k, f = self.means.shape
        free = (k - 1) + k * f + k * f * (f + 1) // 2
        return -2 * self.log_likelihood(rows) * _count(rows) + free * math.log(_count(rows))

    def _map(self, rows: Tensor, finish: Callable[[Tensor], Tensor]) -> Tensor:
        """`finish`, of log joint densities (K, n) -> (any, n), for all rows: (N, any)."""
        frame = _Frame.of(self, rows)
        like = finish(frame.constant[:, :0])
        found = like.new_empty(len(rows), len(like))

        def of_block(pair: tuple[Tensor, Tensor]) -> None:
            for x, place in zip(frame.columns(pair[0]), torch.split(pair[1], _chunk(rows)), strict=True):
                place.copy_(finish(frame.joint(frame.whiten(x))).T)

        for _ in spread(of_block, zip(_blocks(rows), torch.split(found, BLOCK), strict=True)):
            pass
        return found


@dataclass(frozen=True, eq=False)
class _Frame:
    """A mixture prepared for products with rows.

    centre (F,): its mean.  white (K, F, P): maps (x - centre, 1, 0...) to z = L^-1 (x - m_k), where S_k = L L'.
    constant (K, 1): log density at the mean plus log w_k.
    """

    centre: Tensor
    white: Tensor
    constant: Tensor

    @classmethod
    def of(cls, mixture: Mixture, rows: Rows, least: torch.dtype = torch.float32) -> Self:
        """On the device of the rows, in their precision or `least`, whichever is finer."""
        like = rows if isinstance(rows, Tensor) else rows[0]
        dtype = torch.promote_types(like.dtype, least)
        weights, means = mixture.weights.double(), mixture.means.double()
        centre = (weights[:, None] * means).sum(0) / weights.sum()
        factor = torch.linalg.cholesky(mixture.covariances.double())  # (K, F, F)
        eye = torch.eye(len(centre), dtype=factor.dtype, device=factor.device).expand_as(factor)
        white = torch.linalg.solve_triangular(factor, eye, upper=False)
        constant = (
            weights.log() - factor.diagonal(dim1=1, dim2=2).log().sum(1) - 0.5 * len(centre) * math.log(2 * math.pi)
        )
        offset, padding = white @ (centre - means)[:, :, None], -(len(centre) + 1) % LANES
        padded = torch.cat([white, offset, white.new_zeros(*means.shape, padding)], 2)
        parts = (centre, padded, constant[:, None])
        return cls(*(part.to(like.device, dtype) for part in parts))

    def columns(self, block: Tensor) -> Iterator[Tensor]:
        """Chunks of rows as (x - centre, 1, 0...), (P, n): with the 1, products include offsets and sums."""
        f = len(self.centre)
        for part in torch.split(block, _chunk(block)):
            columns = self.centre.new_zeros(self.white.shape[2], len(part))
            torch.sub(part.T, self.centre[:, None], out=columns[:f])
            columns[f] = 1
            yield columns

    def whiten(self, columns: Tensor) -> Tensor:
        """z of every component, (K, F, n)."""
        return (self.white.flatten(0, 1) @ columns).view(*self.white.shape[:2], -1)

    def joint(self, z: Tensor) -> Tensor:
        """Log joint density (K, n)."""
        return self.constant - 0.5 * z.square().sum(1)


def kmeans_plus_plus(rows: Tensor, k: int, random: torch.Generator) -> Tensor:
    """K start centres (K, F), drawn with probability proportional to the squared distance from those before."""
    first = int(torch.randint(len(rows), (1,), generator=random))
    centres, distance = [rows[first]], (rows - rows[first]).square().sum(1)
    for _ in range(k - 1):
        chance = distance.clamp(min=0).double()
        chance = chance if float(chance.sum()) > 0 else torch.ones_like(chance)
        place = chance.sum() * float(torch.rand(1, generator=random, dtype=torch.float64))
        pick = int(torch.searchsorted(chance.cumsum(0), place).clamp(max=len(rows) - 1))
        centres.append(rows[pick])
        distance = torch.minimum(distance, (rows - rows[pick]).square().sum(1))
    return torch.stack(centres)


def maximise(rows: Tensor, responsibility: Tensor, ridge: float) -> Mixture:
    """M step: the mixture of soft memberships (N, K); `ridge` is added to each variance."""
    mass = responsibility.sum(0, dtype=torch.float64).clamp(min=1e-8)
    means = (responsibility.T @ rows).double() / mass[:, None]
    eye = torch.eye(rows.shape[1], dtype=mass.dtype, device=mass.device).expand(len(mass), -1, -1)

    def moments(frame: _Frame) -> Tensor:
        def of_block(pair: tuple[Tensor, Tensor]) -> Tensor:
            shares = torch.split(pair[1].T, _chunk(rows), 1)
            pieces = zip(frame.columns(pair[0]), shares, strict=True)
            return _total(_moments(frame.whiten(x), x, share.to(x.dtype)) for x, share in pieces)

        return _total(spread(of_block, zip(_blocks(rows), _blocks(responsibility), strict=True)))

    return _step(rows, Mixture(mass / mass.sum(), means, eye), moments, ridge)[0]


def em(rows: Rows, start: Mixture, *, iterations: int = 100, tolerance: float = 1e-4, ridge: float = 1e-4) -> Mixture:
    """EM from a start until the mean log-likelihood gains less than `tolerance`.

    Raises InputError if rows are not finite or too far apart for double precision.
    """

    def moments(frame: _Frame) -> Tensor:
        def of_block(block: Tensor) -> Tensor:
            return _total(_expected(frame, x) for x in frame.columns(block))

        return _total(spread(of_block, _blocks(rows)))

    mixture, before = start, -math.inf
    for _ in range(iterations):
        moved, sums = _step(rows, mixture, moments, ridge)
        now = float(sums[0, -1, 0]) / _count(rows)
        if now - before < tolerance:
            break
        before, mixture = now, moved
    return mixture


def _step(rows: Rows, mixture: Mixture, moments: Callable[[_Frame], Tensor], ridge: float) -> tuple[Mixture, Tensor]:
    """The mixture with the `moments` of the rows, and the moments: in double precision where single fails."""
    for least in (torch.float32, torch.float64):
        frame = _Frame.of(mixture, rows, least)
        sums = moments(frame)
        moved = _moved(mixture, frame.centre, sums, ridge)
        if not torch.linalg.cholesky_ex(moved.covariances).info.any():  # also where a sum is not finite
            return moved, sums
    raise InputError(
        "feature vectors have values that are not finite, or that are too far apart to compute with",
        remedy="remove such rows, or scale the columns to similar ranges",
    )


def _expected(frame: _Frame, columns: Tensor) -> Tensor:
    """E step of one chunk: `_moments` under the mixture, with the log-likelihood in a corner."""
    z = frame.whiten(columns)
    joint = frame.joint(z)
    top = joint.amax(0)
    share = (joint - top).exp_()
    density = share.sum(0)
    sums = _moments(z, columns, share / density)
    sums[0, -1, 0] = (density.log_() + top).sum(dtype=torch.float64)
    return sums


def _moments(z: Tensor, columns: Tensor, share: Tensor) -> Tensor:
    """Float64 sums (K, F + 1, F + 1) over n rows of share * (z, 1) (x - centre, 1)'; the last row has only the mass.

    z: (K, F, n), columns: (P, n), share: (K, n).  One factor is centred at its component, so that the covariance of a
    component far from the mean keeps its precision.
    """
    k, f, _ = z.shape
    sums = torch.zeros(k, f + 1, f + 1, dtype=torch.float64, device=z.device)
    sums[:, :f] = ((z * share[:, None]).flatten(0, 1) @ columns.T).view(k, f, -1)[:, :, : f + 1]
    sums[:, f, f] = share.sum(1, dtype=torch.float64)
    return sums


def _moved(mixture: Mixture, centre: Tensor, sums: Tensor, ridge: float) -> Mixture:
    """The mixture of maximum likelihood, given the `_moments` of all rows under the previous one."""
    mass, means = sums[:, -1, -1].clamp(min=1e-8), mixture.means.to(sums)
    factor = torch.linalg.cholesky(mixture.covariances.to(sums))
    about = factor @ sums[:, :-1] / mass[:, None, None]  # means over rows of (x - m) (x - centre, 1)'
    shift = about[:, :, -1]  # from old mean to new
    cross = about[:, :, :-1] - shift[:, :, None] * (means + shift - centre.to(sums))[:, None]
    eye = torch.eye(means.shape[1], dtype=sums.dtype, device=sums.device)
    return Mixture(mass / mass.sum(), means + shift, (cross + cross.mT) / 2 + ridge * eye)


def fit(rows: Rows, k: int, *, seed: int = 0, starts: int = 4, ridge: float = 1e-4) -> Mixture:
    """The most likely of several k-means++ starts, tried on at most START_ROWS rows; then EM on all rows.

    With fewer rows per component than columns, covariances are singular except for the ridge, and the start decides.
    Raises InputError if there are fewer rows than components, and as `em` does.
    """
    if _count(rows) < max(k, 2):
        raise InputError(
            f"{_count(rows)} feature vectors cannot carry {k} components",
            remedy="use a larger scan or fewer components",
        )
    few = _evenly(rows, START_ROWS)
    fits = []
    for start in range(starts):
        centres = kmeans_plus_plus(few, k, generator(seed, k, start))
        for _ in range(10):
            nearest = torch.cdist(few, centres).argmin(1)
            hard = torch.nn.functional.one_hot(nearest, k).to(few.dtype)
            mass = hard.sum(0)
            centres = torch.where(mass[:, None] > 0, (hard.T @ few) / mass.clamp(min=1)[:, None], centres)
        fits.append(em(few, maximise(few, hard, ridge), ridge=ridge))
    best = max(fits, key=lambda mixture: mixture.log_likelihood(few))
    return best if len(few) == _count(rows) else em(rows, best, ridge=ridge)


def fit_by_bic(rows: Rows, low: int = 2, high: int = 8, *, seed: int = 0) -> Mixture:
    """The mixture of `low` to `high` components with the lowest BIC."""
    fits = [fit(rows, k, seed=seed, starts=2) for k in range(low, high + 1) if _count(rows) >= k]
    return min(fits, key=lambda mixture: mixture.bic(rows))


def _blocks(rows: Rows) -> Iterator[Tensor]:
    """Views of at most BLOCK rows, in order."""
    for part in (rows,) if isinstance(rows, Tensor) else rows:
        yield from torch.split(part.detach(), BLOCK)


def _chunk(block: Tensor) -> int:
    """Rows of one product: what fits in the cache, or the whole block on an accelerator."""
    return CHUNK if block.device.type == "cpu" else BLOCK


def _count(rows: Rows) -> int:
    return len(rows) if isinstance(rows, Tensor) else sum(len(part) for part in rows)


def _evenly(rows: Rows, most: int) -> Tensor:
    """All rows, or `most` of them evenly spaced, as one float tensor in memory."""
    count = _count(rows)
    if isinstance(rows, Tensor) and count <= most:
        return rows.to(torch.promote_types(rows.dtype, torch.float32))
    pick = torch.linspace(0, count - 1, min(count, most), dtype=torch.float64).long()
    chosen, start = [], 0
    for part in (rows,) if isinstance(rows, Tensor) else rows:
        mine = pick[(pick >= start) & (pick < start + len(part))] - start
        chosen.append(part[mine.to(part.device)])
        start += len(part)
    found = torch.cat(chosen)
    return found.to(torch.promote_types(found.dtype, torch.float32))


def _total(parts: Iterator[Tensor]) -> Tensor:
    """Sum of at least one tensor, in the order given."""
    total = next(parts)
    for part in parts:
        total = total + part
    return total
