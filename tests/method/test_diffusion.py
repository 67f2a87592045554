"""The schedule, the two predictions and the loss."""

from __future__ import annotations

import pytest
import torch

from diffseglung.method.diffusion import (
    DiffusionModel,
    cosine_signal,
    linear_signal,
    noised,
    per_patch,
    signal_of,
    target,
    to_clean,
)
from diffseglung.method.unet import UNet
from diffseglung.platform.config import UNETS, DiffusionConfig

SCHEDULES = [cosine_signal(1000), linear_signal(1000), cosine_signal(250), linear_signal(250), cosine_signal(2)]


def batch(seed: int = 0, n: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    dice = torch.Generator().manual_seed(seed)
    clean = torch.rand((n, 1, 8, 8, 8), generator=dice) * 2 - 1
    return clean, torch.ones_like(clean), torch.randn(clean.shape, generator=dice)


@pytest.mark.parametrize("signal", SCHEDULES)
def test_signal_falls_from_one_to_nearly_nothing(signal: torch.Tensor) -> None:
    assert signal.dtype == torch.float64
    assert float(signal[0]) == 1.0
    assert bool((signal.diff() < 0).all())
    assert 0 < float(signal[-1]) < 1e-3


@pytest.mark.parametrize("signal", SCHEDULES)
def test_no_step_adds_more_noise_than_the_published_limit(signal: torch.Tensor) -> None:
    assert float((1 - signal[1:] / signal[:-1]).max()) <= 0.999 + 1e-12


def test_cosine_follows_its_formula_but_for_the_last_steps() -> None:
    t = torch.tensor([0, 100, 500, 900], dtype=torch.float64) / 1000
    curve = torch.cos((t + 0.008) / 1.008 * torch.pi / 2) ** 2
    torch.testing.assert_close(cosine_signal(1000)[[0, 100, 500, 900]], curve / curve[0], rtol=1e-9, atol=0)


def test_linear_has_the_betas_of_ho_et_al() -> None:
    betas = 1 - linear_signal(1000)[1:] / linear_signal(1000)[:-1]
    assert float(betas[0]) == pytest.approx(1e-4)
    assert float(betas[-1]) == pytest.approx(0.02)


def test_shorter_linear_chains_end_at_about_the_same_noise() -> None:
    ends = [float(torch.logit(linear_signal(steps)[-1])) for steps in (250, 500, 1000)]
    assert max(ends) - min(ends) < 0.3


def test_the_configuration_chooses_the_schedule() -> None:
    assert torch.equal(signal_of(DiffusionConfig(steps=50, schedule="linear")), linear_signal(50))
    assert torch.equal(signal_of(DiffusionConfig(steps=50)), cosine_signal(50))


def test_noising_keeps_unit_variance() -> None:
    dice = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn((1, 1, 32, 32, 32), generator=dice) for _ in range(2))
    for step in (1, 300, 999):
        x = noised(clean, noise, per_patch(cosine_signal(1000), torch.tensor([step]), clean))
        assert float(x.var()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("prediction", ["noise", "v"])
@pytest.mark.parametrize("step", [1, 37, 500, 990])
def test_the_true_target_gives_back_the_clean_patch(prediction: str, step: int) -> None:
    clean, _, noise = (x.double() for x in batch())
    abar = per_patch(cosine_signal(1000), torch.full((3,), step), clean)
    noisy = noised(clean, noise, abar)
    found = to_clean(target(clean, noise, abar, prediction), noisy, abar, prediction)
    torch.testing.assert_close(found, clean, rtol=0, atol=1e-9)


def test_v_and_noise_are_a_rotation_of_each_other() -> None:
    clean, _, noise = (x.double() for x in batch())
    abar = per_patch(cosine_signal(1000), torch.tensor([5, 400, 1000]), clean)
    noisy, v = noised(clean, noise, abar), target(clean, noise, abar, "v")
    torch.testing.assert_close((1 - abar).sqrt() * noisy + abar.sqrt() * v, noise, rtol=0, atol=1e-12)
    torch.testing.assert_close(noisy.square() + v.square(), clean.square() + noise.square(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("prediction", ["noise", "v"])
@pytest.mark.parametrize(("loss", "power"), [("l1", 1), ("l2", 2)])
def test_the_loss_of_a_silent_network_is_the_size_of_the_target(prediction: str, loss: str, power: int) -> None:
    """A new network predicts zero everywhere, because its last layer begins at zero."""
    model = DiffusionModel.of(UNet(UNETS["tiny"]), DiffusionConfig(prediction=prediction, loss=loss))
    clean, lung, noise = batch()
    step = torch.tensor([3, 500, 900])
    each, taps = model.loss(clean, lung, noise, step)
    wanted = target(clean, noise, per_patch(model.signal, step, clean), prediction).abs() ** power
    torch.testing.assert_close(each, wanted.flatten(1).mean(1))
    assert set(taps) == set(model.network.tap_channels)


@torch.no_grad()
def test_the_denoiser_stays_inside_the_window_unless_told_otherwise() -> None:
    model = DiffusionModel.of(UNet(UNETS["tiny"]), DiffusionConfig())
    _, lung, noise = batch()
    step = torch.full((3,), 900)
    assert float(model.denoiser(lung)(noise, step).abs().max()) <= 1
    assert float(model.denoiser(lung, clip=False)(noise, step).abs().max()) > 1


def test_abar_has_the_shape_and_type_of_the_patches() -> None:
    clean, _, _ = batch()
    abar = per_patch(cosine_signal(10), torch.tensor([0, 5, 10]), clean)
    assert abar.shape == (3, 1, 1, 1, 1)
    assert abar.dtype == clean.dtype
    assert float(abar[0]) == 1


def test_linear_betas_rise_evenly_and_grow_as_the_chain_gets_shorter() -> None:
    for steps in (1000, 250):
        signal = linear_signal(steps)
        betas = 1 - signal[1:] / signal[:-1]
        wanted = torch.linspace(0.1, 20, steps, dtype=torch.float64) / steps
        torch.testing.assert_close(betas, wanted, rtol=1e-9, atol=0)


@torch.no_grad()
def test_the_network_is_told_the_share_of_the_process_and_where_lung_is() -> None:
    """Denoising and scoring ask it alike: (noisy, lung) as channels, step / T."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    class Listening(UNet):
        def with_taps(self, x: torch.Tensor, step: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            seen.append((x, step))
            return super().with_taps(x, step)

    model = DiffusionModel.of(Listening(UNETS["tiny"]), DiffusionConfig(steps=500))
    clean, lung, noise = batch()
    lung[:, :, :3] = 0
    step = torch.tensor([5, 250, 500])
    noisy = noised(clean, noise, per_patch(model.signal, step, clean))
    model.loss(clean, lung, noise, step)
    model.denoiser(lung)(noisy, step)
    assert len(seen) == 2
    for x, share in seen:
        torch.testing.assert_close(x, torch.cat([noisy, lung], 1))
        assert share.tolist() == pytest.approx([0.01, 0.5, 1.0])
