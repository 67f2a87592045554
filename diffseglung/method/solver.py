"""DPM-Solver++ (Lu et al. 2022, arXiv 2211.01095): multistep solvers of the diffusion ODE, forward and inverse.

With lambda = log(alpha / sigma) the ODE has the exact solution (their eq. 9)

    x_t = sigma_t / sigma_s x_s + sigma_t * integral over lambda_s..lambda_t of e^lambda x0(lambda) dlambda,

and the orders differ in how they continue x0(lambda) from its last values. Conventions as in `samplers`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import expm1, log, sqrt

import torch
from torch import Tensor

from diffseglung.method.diffusion import Denoiser
from diffseglung.method.samplers import estimate, jumps
from diffseglung.platform.errors import ConfigError

ORDERS = (1, 2, 3)
Estimates = list[tuple[float, Tensor]]
"""(lambda, x0 there), newest first."""


@torch.no_grad()
def dpm_solver(denoise: Denoiser, noise: Tensor, signal: Tensor, steps: Sequence[int], *, order: int = 2) -> Tensor:
    """Clean patches from noise; order 1 is DDIM, order 2 is the paper's algorithm 2 (2M).

    The first jumps have fewer past estimates and so a lower order; the last one, to sigma 0, returns the estimate.
    """
    return _solve(denoise, noise, signal, jumps(signal, steps), order)


@torch.no_grad()
def dpm_solver_invert(
    denoise: Denoiser, clean: Tensor, signal: Tensor, steps: Sequence[int], *, order: int = 2
) -> Tensor:
    """The noise at steps[0] from which `dpm_solver` over the same steps returns about `clean`: the ODE run upwards.

    lambda is infinite at step 0, so the first jump takes the noise that the denoiser sees at the smallest step.
    """
    (lowest, _), *rest = reversed(list(jumps(signal, steps)))
    alpha, sigma = sqrt(float(signal[lowest])), sqrt(1 - float(signal[lowest]))
    seen = (clean - alpha * estimate(denoise, clean, lowest)) / sigma
    return _solve(denoise, alpha * clean + sigma * seen, signal, ((after, now) for now, after in rest), order)


def _solve(denoise: Denoiser, x: Tensor, signal: Tensor, path: Iterable[tuple[int, int]], order: int) -> Tensor:
    """Follow the ODE along (from, to) pairs of steps, up or down."""
    if order not in ORDERS:
        raise ConfigError(f"DPM-Solver++ has no order {order}", remedy="choose order 1, 2 or 3")
    past: Estimates = []
    for now, after in path:
        a, b = float(signal[now]), float(signal[after])
        clean = estimate(denoise, x, now)
        past = [(0.5 * log(a / (1 - a)), clean), *past][:order]
        if b >= 1:
            x = clean
            continue
        h = 0.5 * log(b / (1 - b)) - past[0][0]
        x = sqrt((1 - b) / (1 - a)) * x + sqrt(b) * _integral(past, h)
    return x


def _integral(past: Estimates, h: float) -> Tensor:
    """1 / alpha_t times the integral term of the solution over a jump of h in lambda.

    Derivatives come from divided differences of the last estimates. Order 3 integrates the quadratic through three of
    them exactly; the authors' code, and ports of it, take half of its second derivative and so stay at order 2.
    """
    grown = -expm1(-h)  # integral of e^(lambda - lambda_t)
    (now, clean), *older = past
    if not older:
        return grown * clean
    slope = (clean - older[0][1]) / (now - older[0][0])
    if len(older) == 1:
        return grown * (clean + 0.5 * h * slope)
    before = (older[0][1] - older[1][1]) / (older[0][0] - older[1][0])
    bend = (slope - before) / (now - older[1][0])
    slope = slope + bend * (now - older[0][0])
    first = h - grown  # integral of e^(lambda - lambda_t) u, u = lambda - lambda_s
    second = h * h - 2 * first  # the same of u^2
    return grown * clean + first * slope + second * bend
