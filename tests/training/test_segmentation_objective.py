"""Stage 3: what its loss counts, what it reaches, and what is exported."""

from __future__ import annotations

import math

import pytest
import torch

from diffseglung.method.train.data import Batch
from diffseglung.method.unet import UNet
from diffseglung.platform.config import UNETS, DiffusionConfig, FinetuneConfig
from diffseglung.training.scene_batches import NOT_SCORED
from diffseglung.training.segmentation_objective import SegmentationObjective, segmentation_loss


def classes_and_logits(seed: int, sure: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Random classes of three patches, the last of them nowhere scored, and logits that are right."""
    classes = torch.randint(NOT_SCORED, 5, (3, 4, 4, 4), generator=torch.Generator().manual_seed(seed))
    classes[2] = NOT_SCORED
    logits = sure * torch.nn.functional.one_hot(classes.clamp(min=0), 5).movedim(-1, 1).float()
    return classes, logits


def test_the_right_classes_cost_nothing_and_equal_logits_what_chance_does():
    classes, logits = classes_and_logits(0, 40.0)
    entropy, dice = segmentation_loss(logits, classes)
    assert entropy.max() < 1e-6
    assert dice.max() < 1e-6
    entropy, _ = segmentation_loss(torch.zeros_like(logits), classes)
    assert entropy.tolist() == pytest.approx([math.log(5), math.log(5), 0])


def test_what_is_not_scored_does_not_count():
    classes, logits = classes_and_logits(1, 3.0)
    other = torch.where((classes == NOT_SCORED)[:, None], torch.randn_like(logits), logits)
    for one, two in zip(segmentation_loss(logits, classes), segmentation_loss(other, classes), strict=True):
        assert torch.equal(one, two)


def test_the_segmenters_loss_is_the_mean_of_its_patches_and_reaches_every_weight():
    torch.manual_seed(0)
    objective = SegmentationObjective(UNet(UNETS["tiny"]), DiffusionConfig(), finetune=FinetuneConfig(dice_weight=0.5))
    clean, noise = torch.randn(4, 1, 16, 16, 16), torch.randn(4, 1, 16, 16, 16)
    classes = torch.randint(NOT_SCORED, 5, (4, 8, 8, 8))
    batch = Batch(clean, torch.ones_like(clean), noise, torch.tensor([0, 0, 5, 25]), classes)
    whole = objective(batch, 1)
    assert whole.measure == "segmentation"
    assert float(whole.loss.detach()) == pytest.approx(
        float(whole.patches.mean() + 0.5 * whole.terms["dice"]), rel=1e-5
    )
    halves = [
        objective(Batch(*(None if value is None else value[half] for value in vars(batch).values())), 1)
        for half in (slice(0, 2), slice(2, 4))
    ]
    assert float(whole.loss.detach()) == pytest.approx(sum(float(h.loss.detach()) for h in halves) / 2, rel=1e-4)
    whole.loss.backward()
    assert all(value.grad is not None for value in objective.parameters())
    assert {name.split(".")[0] + "." for name in objective.state_dict()} == set(objective.exported())
