"""All objectives: what they minimise, what reaches the network, and what is exported."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from diffseglung.method.train.data import Batch, Draws, Patches
from diffseglung.method.train.objective import (
    DiffusionObjective,
    DistillObjective,
    LossOutput,
    fit_standardiser,
)
from diffseglung.method.unet import UNet
from diffseglung.platform.config import (
    UNETS,
    DiffusionConfig,
    DistillConfig,
    IntensityConfig,
    TrainConfig,
)
from diffseglung.platform.runtime import Runtime

CPU = Runtime(device=torch.device("cpu"))


def batch_of(patches: Patches, size: int = 4, loss: str = "local") -> Batch:
    return Draws(patches, TrainConfig(batch_size=size), 1000, patches.teacher(DistillConfig(loss=loss))).batch(1)


def distill_objective(patches: Patches, **settings) -> DistillObjective:
    torch.manual_seed(0)
    config = DistillConfig(**{"warmup_start": 0, "warmup_end": 10, "positions": 32, **settings})
    objective = DistillObjective(
        UNet(UNETS["tiny"]), DiffusionConfig(), distill=config, intensity=IntensityConfig(), seed=0
    )
    fit_standardiser(objective, patches)
    return objective


def outcome_of(objective: DistillObjective, batch: Batch, iteration: int) -> LossOutput:
    """An update of one micro-batch."""
    return objective(batch, iteration, *objective.contrasts([batch], iteration, CPU))


def test_an_untrained_network_pays_the_mean_distance_of_noise(patches):
    """It predicts 0, and the mean of |N(0, 1)| is sqrt(2 / pi)."""
    outcome = DiffusionObjective(UNet(UNETS["tiny"]), DiffusionConfig())(batch_of(patches), 1)
    assert float(outcome.loss.detach()) == pytest.approx(math.sqrt(2 / math.pi), rel=0.02)
    assert torch.equal(outcome.loss.detach(), outcome.patches.mean())
    assert outcome.terms == {}


@pytest.mark.parametrize("loss", ["local", "published"])
def test_the_warm_up_weighs_the_contrastive_loss(patches, loss):
    objective = distill_objective(patches, loss=loss)
    batch = batch_of(patches, loss=loss)
    cold, half, warm = (outcome_of(objective, batch, i) for i in (0, 5, 10))
    assert (cold.terms["lambda"], half.terms["lambda"], warm.terms["lambda"]) == (0, 0.25, 0.5)
    assert torch.equal(cold.loss, cold.patches.mean())
    assert float(warm.loss.detach() - warm.patches.mean()) == pytest.approx(
        0.5 * float(warm.terms["contrastive"]), rel=1e-4
    )


@pytest.mark.parametrize("loss", ["local", "published"])
def test_the_contrastive_loss_reaches_the_first_layer_and_falls(patches, loss):
    objective = distill_objective(patches, loss=loss)
    batch = batch_of(patches, loss=loss)
    before, seen = objective.network.enter.weight.detach().clone(), []
    optimiser = torch.optim.Adam(objective.parameters(), lr=3e-3)
    for _ in range(15):
        outcome = outcome_of(objective, batch, 10)
        optimiser.zero_grad()
        outcome.loss.backward()
        optimiser.step()
        seen.append(float(outcome.terms["contrastive"]))
    assert seen[-1] < 0.8 * seen[0]
    assert not torch.equal(before, objective.network.enter.weight)


def test_stored_and_fresh_descriptors_give_the_same_local_loss_on_flipped_patches(patches):
    objective, batch = distill_objective(patches), batch_of(patches)
    bare = Batch(batch.clean, batch.lung, batch.noise, batch.step, None)
    stored, fresh = (outcome_of(objective, each, 10).terms["contrastive"] for each in (batch, bare))
    assert float(stored) == pytest.approx(float(fresh), rel=0.03)


def test_stored_and_fresh_descriptors_give_the_same_published_loss(patches):
    """Of patches as they were cut (the middle planes of a flipped one are one voxel off), to half precision."""
    objective = distill_objective(patches, loss="published")
    clean = torch.from_numpy(patches.ct[:4].astype(np.float32))[:, None]
    lung = torch.from_numpy(patches.mask[:4].astype(np.float32))[:, None]
    step, whole = torch.tensor([100, 300, 500, 700]), torch.from_numpy(patches.whole[:4].copy())
    losses = [
        outcome_of(objective, Batch(clean, lung, torch.zeros_like(clean), step, teacher), 10).terms["contrastive"]
        for teacher in (whole, None)
    ]
    assert float(losses[0]) == pytest.approx(float(losses[1]), rel=0.02)


def test_noisy_patches_take_no_part_in_the_local_loss(patches):
    objective = distill_objective(patches, max_level=0.0)
    assert float(outcome_of(objective, batch_of(patches), 10).terms["contrastive"]) == 0


@pytest.mark.parametrize("loss", ["local", "published"])
def test_every_parameter_has_a_gradient_even_without_positions(patches, loss):
    """Distributed training waits for a gradient of every parameter."""
    objective = distill_objective(patches, loss=loss)
    batch = batch_of(patches)
    shape = (4, 34, 2, 4, 4) if loss == "local" else (4, 34)
    blank = Batch(batch.clean, batch.lung, batch.noise, batch.step, torch.full(shape, torch.nan))
    outcome = outcome_of(objective, blank, 10)
    outcome.loss.backward()
    assert float(outcome.terms["contrastive"]) == 0
    assert all(p.grad is not None for p in objective.parameters())


def test_the_positions_that_meet_are_drawn_anew_in_each_iteration(patches):
    objective, batch = distill_objective(patches, positions=8), batch_of(patches)
    (one,), (again,), (later,) = (objective.contrasts([batch], i, CPU) for i in (10, 10, 11))
    assert len(one.descriptor) == len(one.where) == 8
    assert torch.equal(one.where, again.where)
    assert not torch.equal(one.where, later.where)


def test_each_position_meets_once_whichever_micro_batch_it_lies_in(patches):
    objective = distill_objective(patches, positions=40)
    draws = Draws(patches, TrainConfig(batch_size=1, accumulate=4), 1000, patches.dense)
    batches = [draws.batch(1, micro) for micro in range(4)]
    found = objective.contrasts(batches, 3, CPU)
    assert sorted(torch.cat([each.at for each in found]).tolist()) == list(range(40))
    for batch, each in zip(batches, found, strict=True):
        rows = batch.teacher[0].movedim(0, -1).flatten(0, -2)
        assert torch.equal(each.descriptor[each.at], rows[each.where])
        assert len(each.at) == 0 or float(batch.step) <= 500
        assert each.parts == 4


def test_a_checkpoint_keeps_the_student_and_drops_the_teachers_head(patches):
    objective = distill_objective(patches)
    kept = [name for name in objective.state_dict() if name.startswith(objective.exported())]
    assert any(name.startswith("head.") for name in kept)
    assert not any(name.startswith("teacher_head.") for name in kept)
    assert "standardiser.mean" in kept


@pytest.mark.parametrize("settings", [{"window": 4}, {"grid_stride": 2}, {"loss": "published"}, {}])
def test_the_teachers_statistics_are_those_of_the_descriptors_that_are_learned_from(patches, settings):
    """Stored vectors of another window or stride are no help; where they fit, they are those computed anew."""
    bare = replace(patches, dense=None, whole=None)
    stored, fresh = (distill_objective(each, **settings).standardiser for each in (patches, bare))
    torch.testing.assert_close(stored.mean, fresh.mean, rtol=0.05, atol=0.01)
    torch.testing.assert_close(stored.scale, fresh.scale, rtol=0.05, atol=0.01)
