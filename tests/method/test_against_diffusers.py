"""Agreement with the schedulers of the diffusers library, written by others from the same papers."""

from __future__ import annotations

import warnings
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from diffseglung.method.diffusion import Denoiser, cosine_signal, linear_signal
from diffseglung.method.samplers import ddim, ddpm, dpm_solver, spaced_steps
from tests.method.gaussian import even_signal, exact_denoiser, on_the_ode, slopes

SIGNALS = {"cosine": cosine_signal(1000), "linear": linear_signal(1000)}


@pytest.fixture(scope="module")
def schedulers() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("diffusers.schedulers")


def start(seed: int = 0) -> Tensor:
    return torch.randn(2, 1, 3, 4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def curved_denoiser(signal: Tensor) -> Denoiser:
    """Smooth, not linear, and different at each step."""

    def denoise(noisy: Tensor, step: Tensor) -> Tensor:
        a = signal[step].reshape(-1, 1, 1, 1, 1)
        return torch.tanh(0.3 + a.sqrt() / (a + 3 * (1 - a)) * noisy)

    return denoise


def walk(
    scheduler: Any, denoise: Denoiser, count: int, *, x: Tensor | None = None, leave_out: int = 0, **extra: Any
) -> Tensor:
    """Sample with a scheduler object, but for the last `leave_out` jumps; its step t is our step t + 1."""
    x = start() if x is None else x
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler.set_timesteps(count)
        assert [int(t) + 1 for t in scheduler.timesteps] == spaced_steps(len(scheduler.betas), count)
        for t in scheduler.timesteps[: count - leave_out]:
            x = scheduler.step(denoise(x, torch.full((len(x),), int(t) + 1)), t, x, **extra).prev_sample
    return x


def options(signal: Tensor) -> dict[str, Any]:
    betas = (1 - signal[1:] / signal[:-1]).numpy()
    return {
        "num_train_timesteps": len(betas),
        "trained_betas": betas,
        "prediction_type": "sample",
        "timestep_spacing": "trailing",
    }


@pytest.mark.parametrize("count", [10, 50])
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("name", SIGNALS)
def test_dpm_solver_agrees(schedulers: ModuleType, name: str, order: int, count: int) -> None:
    signal = SIGNALS[name]
    theirs = schedulers.DPMSolverMultistepScheduler(solver_order=order, **options(signal))
    ours = dpm_solver(curved_denoiser(signal), start(), signal, spaced_steps(1000, count), order=order)
    torch.testing.assert_close(ours, walk(theirs, curved_denoiser(signal), count), rtol=0, atol=1e-5)


def test_third_order_converges_faster_than_theirs(schedulers: ModuleType) -> None:
    """Not equal step by step: theirs halves the second derivative, which leaves order 2. See `solver._integral`."""
    ours, theirs = [], []
    for count in (40, 80, 160):
        signal = torch.cat([torch.ones(1, dtype=torch.float64), even_signal(count, high=3)])
        scheduler = schedulers.DPMSolverMultistepScheduler(solver_order=3, **options(signal))
        found = walk(scheduler, exact_denoiser(signal), count + 1, x=on_the_ode(signal, count + 1), leave_out=1)
        theirs.append(float((found - on_the_ode(signal, 1)).abs().max()))
        finite, steps = signal[1:], spaced_steps(count, count)
        found = dpm_solver(exact_denoiser(finite), on_the_ode(finite, count), finite, steps, order=3)
        ours.append(float((found - on_the_ode(finite, 0)).abs().max()))
    assert slopes(theirs)[-1] == pytest.approx(2, abs=0.2)
    assert slopes(ours)[-1] > 3
    assert ours[-1] < theirs[-1] / 10


@pytest.mark.parametrize("count", [10, 50])
@pytest.mark.parametrize("name", SIGNALS)
def test_ddim_agrees(schedulers: ModuleType, name: str, count: int) -> None:
    signal = SIGNALS[name]
    theirs = schedulers.DDIMScheduler(clip_sample=False, set_alpha_to_one=True, **options(signal))
    ours = ddim(curved_denoiser(signal), start(), signal, spaced_steps(1000, count))
    torch.testing.assert_close(ours, walk(theirs, curved_denoiser(signal), count), rtol=0, atol=1e-5)


@pytest.mark.parametrize("count", [10, 40])
def test_ancestral_sampling_agrees_draw_by_draw(schedulers: ModuleType, count: int) -> None:
    signal = linear_signal(40)
    theirs = schedulers.DDPMScheduler(clip_sample=False, variance_type="fixed_small", **options(signal))
    found = walk(theirs, curved_denoiser(signal), count, generator=torch.Generator().manual_seed(3))
    dice = torch.Generator().manual_seed(3)

    def draw(step: int) -> Tensor:
        return torch.randn(start().shape, generator=dice, dtype=torch.float64)

    ours = ddpm(curved_denoiser(signal), start(), signal, spaced_steps(40, count), draw=draw)
    torch.testing.assert_close(ours, found, rtol=0, atol=1e-5)
