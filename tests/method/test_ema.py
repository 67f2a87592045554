"""The moving average of weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from diffseglung.method.ema import Ema


def module(value: float) -> nn.Module:
    layer = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    for parameter in layer.parameters():
        nn.init.constant_(parameter, value)
    return layer


def top(layer: nn.Module) -> float:
    return float(layer[0].weight.detach().max())


def test_the_average_of_what_does_not_change_is_itself() -> None:
    layer = module(0.7)
    ema = Ema(layer, 0.99)
    for _ in range(5):
        ema.update(layer)
    assert all(torch.equal(ema.weights[name], value) for name, value in layer.state_dict().items())


def test_the_average_follows_its_recursion() -> None:
    ema, expected = Ema(module(0.0), 0.5), 0.0
    for n, value in enumerate([1.0, -2.0, 3.0, 0.5, 8.0, 1.0, 2.0, 4.0, 4.0]):
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * value
        ema.update(module(value))
    assert float(ema.weights["0.weight"][0, 0]) == pytest.approx(expected, rel=1e-6)


def test_the_start_is_forgotten_early() -> None:
    ema = Ema(module(100.0), 0.9999)
    for _ in range(30):
        ema.update(module(1.0))
    assert float(ema.weights["0.weight"].max()) < 1.001


def test_a_constant_decay_is_reached() -> None:
    ema = Ema(module(0.0), 0.995)
    assert ema.next_decay() == pytest.approx(0.1)
    ema.updates = 10_000
    assert ema.next_decay() == 0.995


def test_whole_numbers_are_copied() -> None:
    layer = module(1.0)
    ema = Ema(layer, 0.9)
    layer[1].num_batches_tracked += 7
    ema.update(layer)
    assert int(ema.weights["1.num_batches_tracked"]) == 7


def test_the_average_is_lent_to_a_module_and_taken_back() -> None:
    layer = module(3.0)
    ema = Ema(module(1.0), 0.9)
    with ema.applied_to(layer):
        assert top(layer) == 1.0
    assert top(layer) == 3.0
    with pytest.raises(RuntimeError, match="inside"), ema.applied_to(layer):
        raise RuntimeError("inside")
    assert top(layer) == 3.0


def test_copying_does_not_tie_the_module_to_the_average() -> None:
    layer, ema = module(3.0), Ema(module(1.0), 0.9)
    ema.copy_to(layer)
    nn.init.constant_(layer[0].weight, 9.0)
    assert float(ema.weights["0.weight"].max()) == 1.0


def test_state_survives_a_file(tmp_path: Path) -> None:
    ema = Ema(module(0.0), 0.9)
    ema.update(module(2.0))
    torch.save(ema.state(), tmp_path / "ema.pt")
    other = Ema(module(5.0), 0.5)
    other.restore(torch.load(tmp_path / "ema.pt", weights_only=True))
    for average in (ema, other):
        average.update(module(4.0))
    assert (other.decay, other.updates) == (0.9, 2)
    assert all(torch.equal(ema.weights[name], other.weights[name]) for name in ema.weights)


def test_the_state_of_another_module_is_refused() -> None:
    with pytest.raises(KeyError, match="another module"):
        Ema(module(0.0), 0.9).restore(Ema(nn.Linear(1, 1), 0.9).state())
