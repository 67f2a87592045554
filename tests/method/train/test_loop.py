"""The loop: interrupted equals uninterrupted, divided equals whole, and nothing half-written is left."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diffseglung.method import checkpoint
from diffseglung.method.card import ModelCard
from diffseglung.method.train import loop
from diffseglung.method.train.data import Draws, Patches
from diffseglung.method.train.journal import read
from diffseglung.method.train.loop import Run, Trainer, channels_last, learning_rate
from diffseglung.method.train.objective import DiffusionObjective
from diffseglung.method.train.state import load_state
from diffseglung.method.unet import UNet
from diffseglung.platform.config import UNETS, DiffusionConfig, TrainConfig
from diffseglung.platform.errors import ConfigError, TrainingError
from diffseglung.platform.runtime import Runtime

CPU = Runtime(device=torch.device("cpu"))


def trainer(folder: Path, patches: Patches, *, watch=None, sample=None, **settings) -> Trainer:
    values = {"batch_size": 2, "sample_every": 0, "save_every": 4, "log_every": 2, "iterations": 10, "lr": 1e-3}
    config = TrainConfig(**(values | settings))
    run = Run(
        folder=folder,
        config=config,
        runtime=CPU,
        name="ddpm_base.pt",
        card=ModelCard(unet=UNETS["tiny"]),
        settings={"train": config.to_dict(), "patches": {"digest": patches.digest}},
        sample=sample,
        watch=watch or (lambda iteration, line: None),
    )
    torch.manual_seed(0)
    objective = DiffusionObjective(UNet(UNETS["tiny"]), DiffusionConfig())
    return Trainer(objective, Draws.of(patches, config, steps=1000, runtime=CPU), run)


def equal_states(a: Path, b: Path) -> bool:
    one, two = load_state(a / "last.pt"), load_state(b / "last.pt")
    moments = [
        torch.equal(one.optimiser["state"][i][name], two.optimiser["state"][i][name])
        for i in one.optimiser["state"]
        for name in ("exp_avg", "exp_avg_sq")
    ]
    same = [torch.equal(one.weights[name], two.weights[name]) for name in one.weights]
    same += [torch.equal(one.ema["weights"][name], two.ema["weights"][name]) for name in one.weights]
    return one.iteration == two.iteration and all(same + moments)


def test_continued_training_equals_uninterrupted_training_bit_for_bit(patches, tmp_path):
    trainer(tmp_path / "whole", patches).fit()
    trainer(tmp_path / "parts", patches, iterations=4).fit()
    ending = trainer(tmp_path / "parts", patches).fit()
    assert (ending.iteration, ending.stopped) == (10, False)
    assert equal_states(tmp_path / "whole", tmp_path / "parts")
    lines = [[line["diffusion"] for line in read(tmp_path / name / "journal.jsonl")] for name in ("whole", "parts")]
    assert lines[0] == lines[1]


def test_the_same_seed_trains_the_same_model_bit_for_bit(patches, tmp_path):
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        trainer(tmp_path / name, patches, iterations=4, seed=seed).fit()
    assert equal_states(tmp_path / "one", tmp_path / "two")
    assert not equal_states(tmp_path / "one", tmp_path / "three")


def test_accumulated_micro_batches_equal_one_large_batch(patches, tmp_path):
    trainer(tmp_path / "large", patches, batch_size=4, iterations=3).fit()
    trainer(tmp_path / "micro", patches, batch_size=2, accumulate=2, iterations=3).fit()
    one, two = (load_state(tmp_path / name / "last.pt").weights for name in ("large", "micro"))
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=2e-3, rtol=0)
    first = [read(tmp_path / name / "journal.jsonl")[0]["diffusion"] for name in ("large", "micro")]
    assert first[0] == pytest.approx(first[1], rel=1e-5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_to_stop_saves_and_a_second_run_continues(patches, tmp_path, number):
    def interrupt(iteration, line):
        if iteration == 3:
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)  # torchrun passes on what the terminal has already sent

    handler = signal.getsignal(number)
    ending = trainer(tmp_path / "parts", patches, watch=interrupt).fit()
    assert (ending.iteration, ending.stopped) == (4, True)
    assert signal.getsignal(number) is handler
    trainer(tmp_path / "parts", patches).fit()
    trainer(tmp_path / "whole", patches).fit()
    assert equal_states(tmp_path / "whole", tmp_path / "parts")


def test_a_later_ctrl_c_interrupts_at_once(monkeypatch):
    monkeypatch.setattr(loop, "PATIENCE_S", -1.0)
    with loop.stop_requests() as asked:
        os.kill(os.getpid(), signal.SIGINT)
        assert asked.is_set()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_the_exported_weights_are_the_average_with_their_card(patches, tmp_path):
    fitted = trainer(tmp_path, patches, iterations=4)
    fitted.fit()
    weights, card = checkpoint.load(tmp_path / "ddpm_base.pt")
    assert card.iteration == 4
    assert card.training["diffusion_loss"] > 0
    assert weights.keys() == fitted.ema.weights.keys()
    assert all(torch.equal(weights[name], fitted.ema.weights[name]) for name in weights)
    checkpoint.build(weights, card)


def test_files_are_complete_or_absent(patches, tmp_path):
    trainer(tmp_path, patches, iterations=4).fit()
    names = {path.name for path in tmp_path.iterdir()}
    assert {"last.pt", "ddpm_base.pt", "journal.jsonl", "settings.json", "curve.png", "tensorboard"} == names


def test_a_changed_setting_stops_the_run_before_it_begins(patches, tmp_path):
    trainer(tmp_path, patches, iterations=4).fit()
    with pytest.raises(ConfigError, match="batch_size"):
        trainer(tmp_path, patches, batch_size=4)


def test_training_learns(patches, tmp_path):
    trainer(tmp_path, patches, iterations=40, batch_size=4, lr=3e-3).fit()
    losses = [line["diffusion"] for line in read(tmp_path / "journal.jsonl")]
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])


def test_the_journal_tells_loss_by_noise_level(patches, tmp_path):
    trainer(tmp_path, patches, iterations=4, batch_size=4).fit()
    line = read(tmp_path / "journal.jsonl")[-1]
    quarters = [line[f"diffusion_q{i}"] for i in (1, 2, 3, 4)]
    assert sum(quarters) / 4 == pytest.approx(line["diffusion"], rel=1e-4)
    assert {"iteration", "loss", "grad_norm", "lr", "seconds", "patches_per_second", "waiting"} <= line.keys()
    assert 0 <= line["waiting"] <= 1


def test_samples_are_asked_for_with_the_average_and_the_run_is_not_disturbed(patches, tmp_path):
    calls = []
    sampled = trainer(tmp_path / "sampled", patches, iterations=6, sample_every=3, sample=None)
    sampled.run = replace(
        sampled.run, sample=lambda objective, iteration: calls.append((iteration, objective.state_dict()))
    )
    sampled.fit()
    trainer(tmp_path / "plain", patches, iterations=6).fit()
    assert [iteration for iteration, _ in calls] == [3, 6]
    one, two = (load_state(tmp_path / name / "last.pt").weights for name in ("sampled", "plain"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_gradient_that_is_not_finite_ends_the_run_with_a_way_out(patches, tmp_path):
    broken = trainer(tmp_path, patches)
    with torch.no_grad():
        broken.objective.network.enter.bias.fill_(torch.inf)
    with pytest.raises(TrainingError, match="not finite at iteration 1"):
        broken.fit()
    assert not (tmp_path / "last.pt").exists()


def test_the_learning_rate_is_constant_as_published_or_a_half_cosine():
    assert {learning_rate(i, TrainConfig(lr=1e-4)) for i in (1, 50000, 100000)} == {1e-4}
    config = TrainConfig(lr=1.0, lr_schedule="cosine", iterations=100)
    assert learning_rate(0, config) == pytest.approx(1)
    assert learning_rate(50, config) == pytest.approx(0.525)
    assert learning_rate(100, config) == pytest.approx(0.05)
    assert learning_rate(80, config, start=60) == pytest.approx(0.525)


def test_kernel_layout_does_not_change_values():
    network = UNet(UNETS["tiny"])
    x, fraction = torch.randn(2, 2, 8, 8, 8), torch.tensor([0.1, 0.9])
    before = network(x, fraction)
    channels_last(network)
    torch.testing.assert_close(network(x, fraction), before)


def test_gradient_checkpointing_trains_the_same_network(patches, tmp_path):
    plain = trainer(tmp_path / "plain", patches, iterations=3, batch_size=2)
    frugal = trainer(tmp_path / "frugal", patches, iterations=3, batch_size=2, recompute=True)
    plain.fit()
    frugal.fit()
    assert frugal.objective.network.recompute
    for name, value in plain.objective.state_dict().items():
        torch.testing.assert_close(frugal.objective.state_dict()[name], value, rtol=1e-4, atol=1e-5)
