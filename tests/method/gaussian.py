"""Data N(MEAN, SD^2) in every voxel: its best denoiser and its diffusion ODE are known in closed form."""

from __future__ import annotations

import torch
from torch import Tensor

from diffseglung.method.diffusion import Denoiser

MEAN, SD = 0.3, 0.4
QUANTILES = torch.linspace(-2, 2, 9, dtype=torch.float64).reshape(-1, 1, 1, 1, 1)


def exact_denoiser(signal: Tensor) -> Denoiser:
    """E[x0 | x_t] of Gaussian data."""

    def denoise(noisy: Tensor, step: Tensor) -> Tensor:
        a = signal[step].reshape(-1, 1, 1, 1, 1)
        return MEAN + a.sqrt() * SD**2 / (a * SD**2 + 1 - a) * (noisy - a.sqrt() * MEAN)

    return denoise


def on_the_ode(signal: Tensor, step: int, quantiles: Tensor = QUANTILES) -> Tensor:
    """x_t of the ODE path that keeps its quantile: every path does, when the data are Gaussian."""
    a = signal[step]
    return a.sqrt() * MEAN + (a * SD**2 + 1 - a).sqrt() * quantiles


def quantiles_of(signal: Tensor, step: int, x: Tensor) -> Tensor:
    """Inverse of `on_the_ode`."""
    a = signal[step]
    return (x - a.sqrt() * MEAN) / (a * SD**2 + 1 - a).sqrt()


def even_signal(count: int, *, high: float, low: float = -4.0) -> Tensor:
    """abar of count + 1 steps that are even in lambda, from `high` (step 0) down to `low`."""
    return torch.sigmoid(2 * torch.linspace(high, low, count + 1, dtype=torch.float64))


def slopes(errors: list[float]) -> list[float]:
    """Measured orders of convergence when the number of steps doubles from one entry to the next."""
    e = torch.tensor(errors, dtype=torch.float64)
    return [float(slope) for slope in torch.log2(e[:-1] / e[1:])]
