"""Batches of random patches: the same however they are divided, with classes at the positions of the network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diffseglung.case.positions import middle
from diffseglung.labels import TISSUES
from diffseglung.phantom.backgrounds import Background
from diffseglung.phantom.canvas import UNKNOWN
from diffseglung.platform.config import FinetuneConfig, IntensityConfig, TrainConfig
from diffseglung.training.scene_batches import NOT_SCORED, SceneDraws, classes_at

FINETUNE = FinetuneConfig(shape=(16, 16, 16), noise_free=0.5)


def draws(background: Background, *, batch_size: int, rank: int = 0, world_size: int = 1) -> SceneDraws:
    config = TrainConfig(batch_size=batch_size, accumulate=4 // batch_size // world_size)
    return SceneDraws([background], config, FINETUNE, IntensityConfig(), 1000, 2, rank, world_size)


def test_a_global_batch_is_the_same_in_micro_batches_and_processes(background: Background) -> None:
    whole = draws(background, batch_size=4).batch(3)
    halves = [draws(background, batch_size=2).batch(3, micro) for micro in range(2)]
    ranks = [draws(background, batch_size=2, rank=rank, world_size=2).batch(3) for rank in range(2)]
    for name in ("clean", "lung", "noise", "step", "teacher"):
        for parts in (halves, ranks):
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))
    assert not torch.equal(draws(background, batch_size=4).batch(4).clean, whole.clean)


def test_noise_is_as_strong_as_asked_for_and_the_rest_is_quiet(background: Background) -> None:
    steps = torch.cat([draws(background, batch_size=4).batch(iteration).step for iteration in range(12)])
    assert steps.max() <= 25
    assert 0.3 < (steps == 0).float().mean() < 0.8


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_classes_are_those_of_the_middle_of_each_cell(stride: int) -> None:
    rng = np.random.default_rng(stride)
    truth = rng.choice([0, 1, 2, 3, 4, 5, UNKNOWN], (8, 8, 8)).astype(np.uint8)
    classes = classes_at(truth, stride)
    for index in np.ndindex(*classes.shape):
        here = truth[tuple(i * stride + middle(stride) for i in index)]
        assert classes[index] == (here - 1 if 1 <= here <= len(TISSUES) else NOT_SCORED)
