"""Samplers: plain functions of a denoiser, a start tensor and a schedule. They own no state.

All take `signal`, abar at steps 0..T (T + 1,) in float64, and `steps`, any strictly descending list within 1..T;
the last jump, to step 0, is implied. Write alpha = sqrt(abar), sigma = sqrt(1 - abar). Coefficients are computed in
float64; device and dtype of the result follow the start tensor. DPM-Solver++ is in `solver`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from math import sqrt

import torch
from torch import Tensor

from diffseglung.method.diffusion import Denoiser
from diffseglung.platform.errors import ConfigError
from diffseglung.platform.runtime import patch_noise

NoiseSource = Callable[[int], Tensor]
"""step -> standard normal noise for the jump that leaves this step, in the shape of the batch."""

PURE_NOISE = -5.1
"""lambda below which x_t is taken for noise: abar is under 4e-5 there."""


def spaced_steps(total: int, count: int) -> list[int]:
    """`count` steps spread evenly over 1..total, from `total` down."""
    _check_count(total, count)
    return [-(-total * i // count) for i in range(count, 0, -1)]


def logsnr_steps(signal: Tensor, count: int) -> list[int]:
    """`count` steps of 1..T, descending, as even in lambda = log(alpha / sigma) as whole steps allow.

    Lu et al. 2022 (DPM-Solver, sec. 3.4) space their solver so. Steps below lambda = -5.1 hold no trace of the patch,
    yet would take a third of a cosine schedule's range: they are left out unless all are needed to make up `count`.
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
    """Noise of a batch, of which each patch's part depends on (seed, its index, step) alone; step 0 is the start."""

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
        raise ConfigError(f"DDIM with eta {eta} draws noise, but has no source", remedy="pass draw=, or take eta=0")
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
def ddim_invert(denoise: Denoiser, clean: Tensor, signal: Tensor, steps: Sequence[int], *, refine: int = 0) -> Tensor:
    """The noise at steps[0] from which `ddim` over the same steps returns `clean`: its jumps run backwards.

    refine: fixed-point iterations a jump towards its exact inverse (Pan et al. 2023); with 0, the noise estimated
    at the start of a jump stands for that at its end (Song et al. 2021, sec. 4.3). The jump to step 0 lets go of
    the noise, so its inverse asks the denoiser at the smallest step.
    """
    x = clean
    for now, after in reversed(list(jumps(signal, steps))):
        a, b = float(signal[now]), float(signal[after])
        grow, add = sqrt(a / b), sqrt(1 - a) - sqrt((1 - b) * a / b)
        noise = _noise(denoise, x, signal, after or now)
        for _ in range(refine):
            noise = _noise(denoise, grow * x + add * noise, signal, now)
        x = grow * x + add * noise
    return x


def jumps(signal: Tensor, steps: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Pairs (now, after) of a checked step list, the jump to 0 included. ConfigError for a list that cannot be."""
    path = [*steps, 0]
    if not steps or any(a <= b for a, b in itertools.pairwise(path)) or path[0] >= len(signal):
        shown = ", ".join(map(str, path[:4]))
        raise ConfigError(
            f"steps {shown}, ... are no path through the {len(signal) - 1} steps of the process",
            remedy=f"give strictly descending whole steps within 1..{len(signal) - 1}",
        )
    return itertools.pairwise(path)


def estimate(denoise: Denoiser, x: Tensor, step: int) -> Tensor:
    """The denoiser's x0 for a batch at one step."""
    return denoise(x, torch.full((len(x),), step, device=x.device))


def _noise(denoise: Denoiser, x: Tensor, signal: Tensor, step: int) -> Tensor:
    """The noise that the denoiser sees in x."""
    a = float(signal[step])
    return (x - sqrt(a) * estimate(denoise, x, step)) / sqrt(1 - a)


def _check_count(total: int, count: int) -> None:
    if not 1 <= count <= total:
        raise ConfigError(
            f"{count} sampling steps were asked of a process of {total}", remedy=f"choose between 1 and {total} steps"
        )
