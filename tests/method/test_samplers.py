"""Laws of the samplers, most of them closed forms on Gaussian data."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from diffseglung.method.diffusion import cosine_signal, linear_signal
from diffseglung.method.samplers import (
    PURE_NOISE,
    ddim,
    ddpm,
    dpm_solver,
    jumps,
    logsnr_steps,
    patch_draws,
    spaced_steps,
)
from diffseglung.platform.errors import ConfigError
from tests.method.gaussian import MEAN, QUANTILES, SD, even_signal, exact_denoiser, on_the_ode, slopes

SIGNAL = cosine_signal(1000)


def normal(seed: int, n: int = 40_000) -> torch.Tensor:
    return torch.randn(4, 1, 1, 1, n // 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def source(seed: int, n: int = 40_000):
    return lambda step: normal(seed * 100_000 + step, n)


def test_ancestral_sampling_turns_noise_into_the_data_distribution() -> None:
    x = ddpm(exact_denoiser(SIGNAL), normal(1), SIGNAL, spaced_steps(1000, 1000), draw=source(2))
    assert float(x.mean()) == pytest.approx(MEAN, abs=0.01)
    assert float(x.std()) == pytest.approx(SD, rel=0.015)


@pytest.mark.parametrize("steps", [spaced_steps(1000, 50), logsnr_steps(SIGNAL, 20), [990, 400, 399, 2]])
def test_ancestral_sampling_has_the_moments_of_its_own_recursion(steps: list[int]) -> None:
    """With skipped steps the posterior is too narrow by a known amount, as the mean of x0 stands for x0."""
    mean, variance = 0.0, 1.0
    for now, after in jumps(SIGNAL, steps):
        a, b = float(SIGNAL[now]), float(SIGNAL[after])
        beta = 1 - a / b
        gain = a**0.5 * SD**2 / (a * SD**2 + 1 - a)  # x0 = offset + gain x
        offset = MEAN * (1 - gain * a**0.5)
        from_clean, from_noisy = b**0.5 * beta / (1 - a), (a / b) ** 0.5 * (1 - b) / (1 - a)
        mean = from_clean * (offset + gain * mean) + from_noisy * mean
        variance = (from_clean * gain + from_noisy) ** 2 * variance + beta * (1 - b) / (1 - a)
    x = ddpm(exact_denoiser(SIGNAL), normal(1), SIGNAL, steps, draw=source(2))
    assert float(x.mean()) == pytest.approx(mean, abs=0.01)
    assert float(x.var()) == pytest.approx(variance, rel=0.03)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_with_any_eta_gives_the_data_distribution(eta: float) -> None:
    steps = spaced_steps(1000, 200)
    x = ddim(exact_denoiser(SIGNAL), normal(1), SIGNAL, steps, eta=eta, draw=source(2))
    assert float(x.mean()) == pytest.approx(MEAN, abs=0.01)
    assert float(x.std()) == pytest.approx(SD, rel=0.03)


@pytest.mark.parametrize("steps", [spaced_steps(1000, 30), [900, 333, 7, 1]])
def test_ddim_with_eta_one_is_ancestral_sampling(steps: list[int]) -> None:
    denoise, noise, draw = exact_denoiser(SIGNAL), normal(1, 40), source(2, 40)
    ancestral = ddpm(denoise, noise, SIGNAL, steps, draw=draw)
    torch.testing.assert_close(ddim(denoise, noise, SIGNAL, steps, eta=1.0, draw=draw), ancestral, rtol=0, atol=1e-10)


def test_ddim_follows_the_ode_with_order_one() -> None:
    errors = []
    for count in (20, 40, 80, 160):
        signal = even_signal(count, high=3)
        x = ddim(exact_denoiser(signal), on_the_ode(signal, count), signal, spaced_steps(count, count))
        errors.append(float((x - on_the_ode(signal, 0)).abs().max()))
    assert min(slopes(errors)) > 0.9


def test_an_exact_denoiser_of_one_point_is_reached_in_one_step() -> None:
    point = torch.full((2, 1, 2, 2, 2), 0.25)
    found = ddim(lambda noisy, step: point, torch.randn(2, 1, 2, 2, 2), SIGNAL, [1000])
    assert torch.equal(found, point)


def test_the_result_has_the_dtype_of_the_start() -> None:
    steps, start = [1000, 500], torch.randn(2, 1, 2, 2, 2)
    for x in (
        ddim(lambda noisy, step: noisy, start, SIGNAL, steps),
        ddpm(lambda noisy, step: noisy, start, SIGNAL, steps, draw=patch_draws((1, 2, 2, 2), 0, [0, 1])),
    ):
        assert x.dtype == torch.float32
        assert x.shape == start.shape


def test_a_patch_gets_the_same_noise_in_any_batch() -> None:
    together, alone = patch_draws((1, 4, 4, 4), 5, [3, 8, 2]), patch_draws((1, 4, 4, 4), 5, [8])
    assert torch.equal(together(17)[1:2], alone(17))
    assert not torch.equal(alone(17), alone(18))
    assert not torch.equal(alone(17), patch_draws((1, 4, 4, 4), 6, [8])(17))


def test_samples_do_not_depend_on_the_batch() -> None:
    denoise, steps, shape = exact_denoiser(SIGNAL), spaced_steps(1000, 10), (1, 2, 3, 4)

    def sample(indices: list[int]) -> torch.Tensor:
        draw = patch_draws(shape, 1, indices)
        return ddpm(denoise, draw(0).double(), SIGNAL, steps, draw=draw)

    together = sample([0, 1, 2])
    torch.testing.assert_close(together[1:2], sample([1]), rtol=0, atol=1e-12)


def test_stochastic_ddim_without_a_noise_source_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a noise source"):
        ddim(lambda noisy, step: noisy, torch.zeros(1, 1, 2, 2, 2), SIGNAL, [10], eta=0.5)


@pytest.mark.parametrize("steps", [[], [5, 5], [1, 2], [1001], [10, 0], [3, -1]])
def test_step_lists_that_are_no_path_are_refused(steps: list[int]) -> None:
    with pytest.raises(ConfigError, match="strictly descending"):
        jumps(SIGNAL, steps)


@settings(max_examples=60, deadline=None)
@given(total=st.integers(2, 300), share=st.floats(0, 1), kind=st.sampled_from(["cosine", "linear"]))
def test_step_lists_descend_from_pure_noise(total: int, share: float, kind: str) -> None:
    count = 1 + round(share * (total - 1))
    signal = cosine_signal(total) if kind == "cosine" else linear_signal(total)
    for steps in (spaced_steps(total, count), logsnr_steps(signal, count)):
        assert len(steps) == count
        assert steps[0] == total or 0.5 * torch.logit(signal[steps[0] + 1]) < PURE_NOISE
        assert len(list(jumps(signal, steps))) == count


def test_logsnr_steps_are_even_in_lambda() -> None:
    signal = linear_signal(1000)
    steps = logsnr_steps(signal, 12)
    gaps = torch.logit(signal[steps]).diff()
    assert (steps[0], steps[-1]) == (1000, 1)
    assert float(gaps.max() / gaps.min()) < 1.15


def test_logsnr_steps_leave_out_what_is_noise_alone() -> None:
    steps = logsnr_steps(SIGNAL, 15)
    assert 0.5 * float(torch.logit(SIGNAL[steps[0]])) == pytest.approx(PURE_NOISE, abs=0.2)
    assert logsnr_steps(SIGNAL, 1000) == list(range(1000, 0, -1))
    found = dpm_solver(exact_denoiser(SIGNAL), QUANTILES, SIGNAL, steps)
    torch.testing.assert_close(found, on_the_ode(SIGNAL, 0), rtol=0, atol=0.025)


@pytest.mark.parametrize("count", [0, 1001])
def test_a_count_of_steps_outside_the_process_is_refused(count: int) -> None:
    with pytest.raises(ConfigError, match="between 1 and 1000"):
        spaced_steps(1000, count)
    with pytest.raises(ConfigError, match="between 1 and 1000"):
        logsnr_steps(SIGNAL, count)


def test_noise_is_asked_for_where_it_is_added_and_nowhere_else() -> None:
    """The last jump adds none, and deterministic sampling none at all."""
    asked: list[int] = []

    def draw(step: int) -> torch.Tensor:
        asked.append(step)
        return normal(step, 40)

    noise, steps = normal(1, 40), [900, 500, 20]
    ddpm(exact_denoiser(SIGNAL), noise, SIGNAL, steps, draw=draw)
    ddim(exact_denoiser(SIGNAL), noise, SIGNAL, steps, eta=0.3, draw=draw)
    ddim(exact_denoiser(SIGNAL), noise, SIGNAL, steps, eta=0.0, draw=draw)
    assert asked == [900, 500, 900, 500]


@pytest.mark.parametrize("signal", [SIGNAL, linear_signal(1000)])
@pytest.mark.parametrize("count", [9, 400])
def test_logsnr_steps_are_the_nearest_to_even_places_or_the_next_that_is_free(signal: torch.Tensor, count: int) -> None:
    steps = logsnr_steps(signal, count)
    level = 0.5 * torch.logit(signal)  # infinite at step 0, which is never nearest
    places = torch.linspace(*level[[steps[0], 1]].tolist(), count, dtype=torch.float64)
    nearest = [int((level - place).abs().argmin()) for place in places.tolist()]
    for i in range(count):
        assert steps[i] in (nearest[i], steps[i - 1] - 1, count - i)
    assert (steps == nearest) == (count == 9)


def test_spaced_steps_are_multiples_of_the_spacing_rounded_up() -> None:
    assert spaced_steps(1000, 4) == [1000, 750, 500, 250]
    assert spaced_steps(10, 3) == [10, 7, 4]
    assert spaced_steps(5, 5) == [5, 4, 3, 2, 1]
    assert spaced_steps(7, 1) == [7]


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


@pytest.mark.parametrize("steps", [spaced_steps(1000, 25), [1000, 700, 699, 20, 3]])
def test_order_one_is_ddim(steps: list[int]) -> None:
    signal = linear_signal(1000)
    start = on_the_ode(signal, 1000)
    found = dpm_solver(exact_denoiser(signal), start, signal, steps, order=1)
    torch.testing.assert_close(found, ddim(exact_denoiser(signal), start, signal, steps), rtol=0, atol=1e-12)


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
