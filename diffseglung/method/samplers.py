"""Samplers: stateless functions of a denoiser, a start tensor and a schedule.

All take `signal`, abar at steps 0..T (T + 1,) in float64, and `steps`, any strictly descending list within 1..T;
the last jump, to step 0, is implied. alpha = sqrt(abar), sigma = sqrt(1 - abar). Coefficients are computed in float64;
device and dtype of the result follow the start tensor.

>>> from diffseglung.method.diffusion import cosine_signal
>>> signal, clean = cosine_signal(1000), torch.full((1, 1, 2, 2, 2), 0.25)
>>> def denoise(noisy: Tensor, step: Tensor) -> Tensor:  # an exact denoiser of one point
...     return clean
>>> dpm_solver(denoise, torch.randn(1, 1, 2, 2, 2), signal, logsnr_steps(signal, 10)).allclose(clean)
True
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from math import expm1, log, sqrt

import torch
from torch import Tensor

from diffseglung.method.diffusion import Denoiser
from diffseglung.platform.errors import ConfigError
from diffseglung.platform.runtime import patch_noise

NoiseSource = Callable[[int], Tensor]
"""Step -> standard normal noise for the jump from this step, in the shape of the batch."""

ORDERS = (1, 2, 3)
PURE_NOISE = -5.1
"""lambda below which x_t is pure noise: abar is under 4e-5 there."""


def spaced_steps(total: int, count: int) -> list[int]:
    """`count` steps spread evenly over 1..total, descending from `total`.

    >>> spaced_steps(1000, 4)
    [1000, 750, 500, 250]
    """
    _check_count(total, count)
    return [-(-total * i // count) for i in range(count, 0, -1)]


def logsnr_steps(signal: Tensor, count: int) -> list[int]:
    """`count` steps of 1..T, descending, as even in lambda = log(alpha / sigma) as whole steps allow.

    This is the spacing of Lu et al. 2022 (DPM-Solver, sec. 3.4). Steps below lambda = -5.1 hold no trace of the patch,
    yet would take a third of a cosine schedule's range: they are left out unless needed to reach `count`.
    """
    total = len(signal) - 1
    _check_count(total, count)
    ascending = 0.5 * torch.logit(signal[1:].double()).flip(0)  # lambda at steps T..1
    first = min(int(torch.searchsorted(ascending, PURE_NOISE)), total - count)
    wanted = torch.linspace(float(ascending[first]), float(ascending[-1]), count, dtype=torch.float64)
    middles = (ascending[1:] + ascending[:-1]) / 2
    places: list[int] = torch.searchsorted(middles, wanted).tolist()  # of the nearest step; 0 is step T
    for i in range(1, count):
        places[i] = max(places[i], places[i - 1] + 1)
    for i in range(count):
        places[i] = min(places[i], total - count + i)
    return [total - place for place in places]


def patch_draws(shape: tuple[int, ...], seed: int, indices: Sequence[int]) -> NoiseSource:
    """Noise of a batch: that of each patch depends only on (seed, its index, step); step 0 is the start."""

    def draw(step: int) -> Tensor:
        return torch.stack([patch_noise(shape, seed, index, step) for index in indices])

    return draw


@torch.no_grad()
def ddpm(denoise: Denoiser, noise: Tensor, signal: Tensor, steps: Sequence[int], *, draw: NoiseSource) -> Tensor:
    """Ancestral sampling: the posterior q(x_s | x_t, x0) of Ho et al. 2020 (eqs. 6, 7, 11), for any s < t."""
    x = noise
    for now, after in jumps(signal, steps):
        a, b = float(signal[now]), float(signal[after])
        kept = a / b  # share of signal between the two steps, alpha_t of the paper when after = now - 1
        mean = sqrt(b) * (1 - kept) / (1 - a) * estimate(denoise, x, now) + sqrt(kept) * (1 - b) / (1 - a) * x
        spread = sqrt((1 - b) / (1 - a) * (1 - kept))
        x = mean + spread * draw(now).to(x) if spread > 0 else mean
    return x


@torch.no_grad()
def ddim(
    denoise: Denoiser,
    noise: Tensor,
    signal: Tensor,
    steps: Sequence[int],
    *,
    eta: float = 0.0,
    draw: NoiseSource | None = None,
) -> Tensor:
    """DDIM (Song et al. 2021, eqs. 12 and 16): eta 0 is deterministic, eta 1 is ancestral and needs `draw`."""
    if eta > 0 and draw is None:
        raise ConfigError(f"DDIM with eta {eta} needs a noise source", remedy="pass draw=, or use eta=0")
    x = noise
    for now, after in jumps(signal, steps):
        a, b = float(signal[now]), float(signal[after])
        clean = estimate(denoise, x, now)
        direction = (x - sqrt(a) * clean) / sqrt(1 - a)
        spread = eta * sqrt((1 - b) / (1 - a) * (1 - a / b))
        x = sqrt(b) * clean + sqrt(max(1 - b - spread**2, 0.0)) * direction
        if draw is not None and spread > 0:
            x = x + spread * draw(now).to(x)
    return x


@torch.no_grad()
def dpm_solver(denoise: Denoiser, noise: Tensor, signal: Tensor, steps: Sequence[int], *, order: int = 2) -> Tensor:
    """DPM-Solver++ (Lu et al. 2022, arXiv 2211.01095): order 1 is DDIM, order 2 is the paper's algorithm 2 (2M).

    With lambda = log(alpha / sigma) the diffusion ODE has the exact solution (their eq. 9)

        x_t = sigma_t / sigma_s x_s + sigma_t * integral over lambda_s..lambda_t of e^lambda x0(lambda) dlambda,

    and the orders (1 to 3) differ in how they extrapolate x0(lambda) from its last values. The first jumps have fewer
    past estimates and so a lower order; the last one, to sigma 0, returns the estimate.
    """
    if order not in ORDERS:
        raise ConfigError(f"DPM-Solver++ has no order {order}", remedy="choose order 1, 2 or 3")
    x, past = noise, list[tuple[float, Tensor]]()
    for now, after in jumps(signal, steps):
        a, b = float(signal[now]), float(signal[after])
        clean = estimate(denoise, x, now)
        past = [(0.5 * log(a / (1 - a)), clean), *past][:order]
        if b >= 1:
            x = clean
            continue
        h = 0.5 * log(b / (1 - b)) - past[0][0]
        x = sqrt((1 - b) / (1 - a)) * x + sqrt(b) * _integral(past, h)
    return x


def _integral(past: list[tuple[float, Tensor]], h: float) -> Tensor:
    """1 / alpha_t times the integral term of the solution over a jump of h in lambda.

    past: (lambda, x0 there), newest first. Derivatives come from divided differences. Order 3 integrates the quadratic
    through three estimates exactly; the authors' code and its ports use half of its second derivative and so stay at
    order 2.
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
    first = h - grown  # of e^(lambda - lambda_t) u, with u = lambda - lambda_s
    second = h * h - 2 * first  # of e^(lambda - lambda_t) u^2
    return grown * clean + first * slope + second * bend


def jumps(signal: Tensor, steps: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Pairs (now, after) of a step list, including the jump to 0.  Raises ConfigError for an invalid list.

    >>> from diffseglung.method.diffusion import cosine_signal
    >>> list(jumps(cosine_signal(100), [100, 50]))
    [(100, 50), (50, 0)]
    """
    path = [*steps, 0]
    if not steps or any(a <= b for a, b in itertools.pairwise(path)) or path[0] >= len(signal):
        shown = ", ".join(map(str, path[:4]))
        raise ConfigError(
            f"steps {shown}, ... are not a path through the {len(signal) - 1} steps of the process",
            remedy=f"give strictly descending whole steps within 1..{len(signal) - 1}",
        )
    return itertools.pairwise(path)


def estimate(denoise: Denoiser, x: Tensor, step: int) -> Tensor:
    """The denoiser's estimate of x0 for a batch at one step."""
    return denoise(x, torch.full((len(x),), step, device=x.device))


def _check_count(total: int, count: int) -> None:
    if not 1 <= count <= total:
        raise ConfigError(
            f"{count} sampling steps were requested from a process of {total}",
            remedy=f"choose between 1 and {total} steps",
        )
