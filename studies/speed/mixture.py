"""Gaussian mixtures compared with scikit-learn: the same rows, start, number of iterations and cores."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffseglung.method.mixture import Mixture, em
from diffseglung.platform.runtime import generator
from studies.speed.clock import Row, clock, race
from studies.speed.machine import machine

FEATURES, COMPONENTS, RIDGE = 30, 5, 1e-6
PEER = "scikit-learn GaussianMixture, full covariances"
FASTER, PREDICTION_S = 4, 2.5


def rows(quick: bool = False) -> list[Row]:
    """Fit and prediction compared with scikit-learn, and a pass over streamed rows.  quick: small sizes, for tests."""
    if quick:
        return [_fit(20_000, 3, 1), _predict(50_000, 1), _stream(10_000, 20)]
    fit, predict, stream = _fit(500_000, 10, 3), _predict(5_000_000, 3), _stream(500_000, 40)
    return [
        replace(fit, target=f"{FASTER} x the peer", met=(fit.ratio or 0) >= FASTER),
        replace(predict, target=f"{PREDICTION_S} s", met=predict.cost.seconds <= PREDICTION_S),
        stream,
    ]


def crowd(n: int) -> tuple[Tensor, Mixture]:
    """n rows (n, 30) float32 of five overlapping, correlated Gaussians, and starting values near them."""
    random = generator(8)
    centres = 1.5 * torch.randn(COMPONENTS, FEATURES, generator=random)
    values = torch.randn(n, FEATURES, generator=random) @ (0.3 * torch.randn(FEATURES, FEATURES, generator=random))
    values += 0.5 * torch.randn(n, FEATURES, generator=random)
    values += centres[torch.arange(n) % COMPONENTS]
    balls = torch.eye(FEATURES).repeat(COMPONENTS, 1, 1)
    return values, Mixture(torch.full((COMPONENTS,), 1 / COMPONENTS), centres + 0.3, balls)


def fitted(values: Tensor, start: Mixture, iterations: int) -> Mixture:
    """Our mixture after a fixed number of iterations."""
    return em(values, start, iterations=iterations, tolerance=-math.inf, ridge=RIDGE)


def fitted_by_peer(values: Tensor, start: Mixture, iterations: int) -> Any:
    """The peer's mixture after the same number of iterations from the same start."""
    from sklearn.mixture import GaussianMixture

    mixture = GaussianMixture(
        COMPONENTS,
        weights_init=np.full(COMPONENTS, 1 / COMPONENTS),
        means_init=start.means.numpy(),
        precisions_init=np.linalg.inv(start.covariances.numpy()),
        tol=0.0,
        max_iter=iterations,
        reg_covar=RIDGE,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no convergence is expected: the number of iterations is fixed
        return mixture.fit(values.numpy())


def apart(values: Tensor, ours: Mixture, theirs: Any) -> float:
    """Difference of the mean log-likelihoods per row."""
    return abs(ours.log_likelihood(values) - float(theirs.score(values.double().numpy())))


def _fit(n: int, iterations: int, repeats: int) -> Row:
    values, start = crowd(n)
    cost, peer_cost = race(
        lambda: fitted(values, start, iterations), lambda: fitted_by_peer(values, start, iterations), repeats
    )
    few = values[:50_000]
    difference = apart(few, fitted(values, start, iterations), fitted_by_peer(values, start, iterations))
    flops = 4.0 * FEATURES**2 * COMPONENTS
    return Row(
        part="mixture",
        what=f"EM of {n:,} rows x {FEATURES}, K = {COMPONENTS}, {iterations} iterations",
        cost=cost,
        amount=float(n * iterations),
        unit="rows x iterations",
        peer=PEER,
        peer_cost=peer_cost,
        floor_s=iterations * machine().floor_s(flops * n, 4.0 * FEATURES * n),
        floor=f"4 K F^2 = {flops:,.0f} operations a row and iteration over the peak of a matrix product",
        note=f"float32 rows for both; mean log-likelihood of a row differs by {difference:.1e}",
    )


def _predict(n: int, repeats: int) -> Row:
    values, start = crowd(n)
    few = values[:20_000]
    ours, theirs = fitted(few, start, 2), fitted_by_peer(few, start, 2)
    cost, peer_cost = race(lambda: ours.responsibilities(values), lambda: theirs.predict_proba(values.numpy()), repeats)
    most = np.abs(ours.responsibilities(few).numpy() - theirs.predict_proba(few.numpy())).max()
    flops = 2.0 * FEATURES**2 * COMPONENTS
    return Row(
        part="mixture",
        what=f"responsibilities of {n:,} rows x {FEATURES}, K = {COMPONENTS}",
        cost=cost,
        amount=float(n),
        unit="rows",
        peer=PEER,
        peer_cost=peer_cost,
        floor_s=machine().floor_s(flops * n, 4.0 * (FEATURES + COMPONENTS) * n),
        floor=f"2 K F^2 = {flops:,.0f} operations and {4 * (FEATURES + COMPONENTS)} bytes a row, the slower of the two",
        note=f"responsibilities differ by {most:.1e} at most",
    )


def _stream(n: int, parts: int) -> Row:
    """One iteration over `parts` times the same n rows, as parts read from disk would be."""
    values, start = crowd(n)
    cost = clock(lambda: em([values] * parts, start, iterations=1), 1, warm=False)
    flops = 4.0 * FEATURES**2 * COMPONENTS * n * parts
    return Row(
        part="mixture",
        what=f"one EM iteration of {n * parts:,} rows x {FEATURES} in {parts} parts, K = {COMPONENTS}",
        cost=cost,
        amount=float(n * parts),
        unit="rows",
        floor_s=machine().floor_s(flops, 4.0 * FEATURES * n * parts),
        floor="as above",
        note="memory does not grow with the number of parts",
    )
