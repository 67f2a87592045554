"""DPM-Solver++: orders of convergence, inversion, and agreement with an independent ODE integrator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from diffseglung.method.diffusion import cosine_signal, linear_signal
from diffseglung.method.samplers import ddim, ddim_invert, logsnr_steps, spaced_steps
from diffseglung.method.solver import dpm_solver, dpm_solver_invert
from diffseglung.platform.errors import ConfigError
from tests.method.gaussian import even_signal, exact_denoiser, on_the_ode, quantiles_of, slopes

COUNTS = (20, 40, 80, 160)
ONE = torch.ones(1, dtype=torch.float64)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_error_falls_with_the_order_on_gaussian_data(order: int) -> None:
    errors = []
    for count in COUNTS:
        signal = even_signal(count, high=3)
        start, steps = on_the_ode(signal, count), spaced_steps(count, count)
        x = dpm_solver(exact_denoiser(signal), start, signal, steps, order=order)
        errors.append(float((x - on_the_ode(signal, 0)).abs().max()))
    assert min(slopes(errors)[1:]) > order - 0.1


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_error_falls_with_the_order_on_data_that_are_not_gaussian(order: int) -> None:
    """Two points at -0.5 and +0.5: E[x0 | x] = 0.5 tanh(0.5 alpha x / sigma^2); reference by Runge-Kutta."""

    def clean(x: np.ndarray, alpha: float, variance: float) -> np.ndarray:
        return 0.5 * np.tanh(0.5 * alpha * x / variance)

    def slope(level: float, scaled: np.ndarray) -> np.ndarray:  # d(x / sigma) / d lambda = e^lambda x0
        a = 1 / (1 + np.exp(-2 * level))
        return np.exp(level) * clean(scaled * np.sqrt(1 - a), np.sqrt(a), 1 - a)

    low, high = -3.0, 1.0
    start = np.array([-1.5, -0.4, 0.1, 0.9])
    sigma = {level: np.sqrt(1 - 1 / (1 + np.exp(-2 * level))) for level in (low, high)}
    path = solve_ivp(slope, (low, high), start / sigma[low], method="DOP853", rtol=1e-12, atol=1e-12)
    reference = path.y[:, -1] * sigma[high]
    errors = []
    for count in COUNTS:
        signal = even_signal(count, high=high, low=low)

        def denoise(x: torch.Tensor, step: torch.Tensor, signal: torch.Tensor = signal) -> torch.Tensor:
            a = float(signal[int(step[0])])
            return torch.from_numpy(clean(x.numpy(), a**0.5, 1 - a))

        x = dpm_solver(denoise, torch.from_numpy(start), signal, spaced_steps(count, count), order=order)
        errors.append(float(np.abs(x.numpy() - reference).max()))
    assert min(slopes(errors)[1:]) > order - 0.3


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_inverse_converges_with_the_order(order: int) -> None:
    """Measured from the first jump on, whose own error is that of reading the noise at the smallest step."""
    errors = []
    for count in COUNTS:
        signal = torch.cat([ONE, even_signal(count, high=5)])
        denoise, data = exact_denoiser(signal), on_the_ode(signal, 0)
        first = dpm_solver_invert(denoise, data, signal, [1], order=order)
        x = dpm_solver_invert(denoise, data, signal, spaced_steps(count + 1, count + 1), order=order)
        gap = quantiles_of(signal, count + 1, x) - quantiles_of(signal, 1, first)
        errors.append(float(gap.abs().max()))
    assert min(slopes(errors)[1:]) > order - 0.3


@pytest.mark.parametrize(("order", "within"), [(1, 0.03), (2, 1e-3), (3, 1e-3)])
def test_there_and_back_returns_the_data(order: int, within: float) -> None:
    signal = cosine_signal(1000)
    denoise, data, steps = exact_denoiser(signal), on_the_ode(signal, 0), logsnr_steps(signal, 250)
    noise = dpm_solver_invert(denoise, data, signal, steps, order=order)
    torch.testing.assert_close(dpm_solver(denoise, noise, signal, steps, order=order), data, rtol=0, atol=within)


@pytest.mark.parametrize("steps", [spaced_steps(1000, 25), [1000, 700, 699, 20, 3]])
def test_order_one_is_ddim(steps: list[int]) -> None:
    signal = linear_signal(1000)
    start = on_the_ode(signal, 1000)
    found = dpm_solver(exact_denoiser(signal), start, signal, steps, order=1)
    torch.testing.assert_close(found, ddim(exact_denoiser(signal), start, signal, steps), rtol=0, atol=1e-12)


@pytest.mark.parametrize("steps", [spaced_steps(1000, 25), [700, 400, 3]])
def test_the_inverse_of_order_one_is_that_of_ddim(steps: list[int]) -> None:
    signal = linear_signal(1000)
    denoise, data = exact_denoiser(signal), on_the_ode(signal, 0)
    found = dpm_solver_invert(denoise, data, signal, steps, order=1)
    torch.testing.assert_close(found, ddim_invert(denoise, data, signal, steps), rtol=0, atol=1e-12)


def test_higher_orders_need_fewer_steps() -> None:
    signal = cosine_signal(1000)
    steps = logsnr_steps(signal, 25)
    start, data = on_the_ode(signal, steps[0]), on_the_ode(signal, 0)
    first, second, third = (
        float((dpm_solver(exact_denoiser(signal), start, signal, steps, order=o) - data).abs().max()) for o in (1, 2, 3)
    )
    assert third < second < first / 5


def test_float32_loses_little() -> None:
    signal = cosine_signal(1000)
    steps, start = spaced_steps(1000, 250), on_the_ode(signal, 1000)
    exact = dpm_solver(exact_denoiser(signal), start, signal, steps)
    single = dpm_solver(lambda x, t: exact_denoiser(signal)(x.double(), t).float(), start.float(), signal, steps)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, rtol=0, atol=1e-4)


def test_unknown_orders_are_refused() -> None:
    with pytest.raises(ConfigError, match="no order 4"):
        dpm_solver(lambda x, t: x, torch.zeros(1, 1, 2, 2, 2), cosine_signal(10), [10], order=4)
