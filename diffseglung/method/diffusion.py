"""The diffusion process: schedule, noising, what the network predicts, and the loss.

Notation of Ho et al. 2020: x0 the clean patch, x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) eps (eq. 4);
v_t = sqrt(abar_t) eps - sqrt(1 - abar_t) x0 (Salimans & Ho 2022, app. D).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffseglung.method.unet import UNet
from diffseglung.platform.config import DiffusionConfig

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(noisy (B, C, Z, Y, X), step (B,) integer) -> estimate of the clean tensor, same shape as noisy."""


def cosine_signal(steps: int) -> Tensor:
    """abar at steps 0..T (Nichol & Dhariwal 2021, eq. 17, betas clipped at 0.999), float64 (T + 1,)."""
    t = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    curve = torch.cos((t + 0.008) / 1.008 * torch.pi / 2) ** 2
    betas = (1 - curve[1:] / curve[:-1]).clamp(max=0.999)
    return torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - betas, 0)])


def linear_signal(steps: int) -> Tensor:
    """abar for betas rising linearly from 1e-4 to 0.02 at T = 1000, rescaled to T (Ho et al. 2020, sec. 4)."""
    scale = 1000.0 / steps
    betas = torch.linspace(1e-4 * scale, 0.02 * scale, steps, dtype=torch.float64).clamp(max=0.999)
    return torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - betas, 0)])


def signal_of(config: DiffusionConfig) -> Tensor:
    """abar (T + 1,) of the configured schedule."""
    return cosine_signal(config.steps) if config.schedule == "cosine" else linear_signal(config.steps)


def per_patch(signal: Tensor, step: Tensor, like: Tensor) -> Tensor:
    """abar at each patch's step, shaped (B, 1, 1, 1, 1) in the dtype of `like`."""
    return signal.to(like.dtype).to(step.device)[step].reshape(-1, *[1] * (like.ndim - 1))


def noised(clean: Tensor, noise: Tensor, abar: Tensor) -> Tensor:
    """x_t (eq. 4), also called q_sample: clean signal and noise mixed.

    >>> noised(torch.ones(2), torch.zeros(2), torch.tensor(0.25))
    tensor([0.5000, 0.5000])
    """
    return abar.sqrt() * clean + (1 - abar).sqrt() * noise


def target(clean: Tensor, noise: Tensor, abar: Tensor, prediction: str) -> Tensor:
    """What the network learns to predict: the noise or v."""
    if prediction == "noise":
        return noise
    return abar.sqrt() * noise - (1 - abar).sqrt() * clean


def to_clean(predicted: Tensor, noisy: Tensor, abar: Tensor, prediction: str) -> Tensor:
    """Estimate of x0 from the network's prediction."""
    if prediction == "noise":
        return (noisy - (1 - abar).sqrt() * predicted) / abar.sqrt()
    return abar.sqrt() * noisy - (1 - abar).sqrt() * predicted


@dataclass(frozen=True)
class DiffusionModel:
    """A network with the diffusion process it was trained for: noises, denoises and scores patches."""

    network: UNet
    config: DiffusionConfig
    signal: Tensor

    @classmethod
    def of(cls, network: UNet, config: DiffusionConfig) -> DiffusionModel:
        """Pair a network with its process."""
        return cls(network, config, signal_of(config))

    def denoiser(self, lung: Tensor, clip: bool = True) -> Denoiser:
        """Estimator of x0 for patches with lung masks `lung` (B, 1, Z, Y, X), clipped to the HU window by default."""

        def denoise(noisy: Tensor, step: Tensor) -> Tensor:
            fraction = step.to(noisy.dtype) / self.config.steps
            predicted = self.network(torch.cat([noisy, lung.to(noisy.dtype)], dim=1), fraction).to(noisy.dtype)
            clean = to_clean(predicted, noisy, per_patch(self.signal, step, noisy), self.config.prediction)
            return clean.clamp(-1, 1) if clip else clean

        return denoise

    def loss(self, clean: Tensor, lung: Tensor, noise: Tensor, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean distance between prediction and target for each patch (B,), and the network's taps."""
        abar = per_patch(self.signal, step, clean)
        noisy = noised(clean, noise, abar)
        predicted, taps = self.network.with_taps(
            torch.cat([noisy, lung], dim=1), step.to(clean.dtype) / self.config.steps
        )
        gap = predicted.float() - target(clean, noise, abar, self.config.prediction)
        distance = gap.abs() if self.config.loss == "l1" else gap.square()
        return distance.flatten(1).mean(1), taps
