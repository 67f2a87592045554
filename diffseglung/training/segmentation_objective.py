"""Objective of stage 3: the segmentation loss on synthetic lesions."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from diffseglung.method.diffusion import DiffusionModel, noised, per_patch
from diffseglung.method.train.data import Batch
from diffseglung.method.train.objective import LossOutput, Objective
from diffseglung.method.unet import UNet
from diffseglung.platform.config import DiffusionConfig, FinetuneConfig
from diffseglung.tissue.segmenter import SegmentationHead
from diffseglung.training.scene_batches import NOT_SCORED

SMOOTHED = 20.0
"""Positions added to numerator and denominator of Dice, so that rare classes of a patch have little weight."""


class SegmentationObjective(Objective):
    """Stage 3: cross entropy and soft Dice loss (Milletari et al. 2016, V-Net) of each patch, on synthetic lesions.

    Patches may hold a little diffusion noise, which keeps the network close to its training and robust.
    """

    def __init__(self, network: UNet, config: DiffusionConfig, *, finetune: FinetuneConfig) -> None:
        super().__init__()
        self.network = network
        self.model = DiffusionModel.of(network, config)
        self.finetune = finetune
        self.segmenter = SegmentationHead(network)

    def exported(self) -> tuple[str, ...]:
        """Prefixes of the weights that an exported checkpoint contains."""
        return ("network.", "segmenter.")

    def forward(self, batch: Batch, iteration: int, contrast: None = None) -> LossOutput:
        """Loss of one micro-batch: the mean of its patches."""
        level = batch.step / self.model.config.steps
        noisy = noised(batch.clean, batch.noise, per_patch(self.model.signal, batch.step, batch.clean))
        predicted, taps = self.network.with_taps(torch.cat([noisy, batch.lung], dim=1), level.to(noisy.dtype))
        entropy, dice = segmentation_loss(self.segmenter(taps).float(), cast(Tensor, batch.teacher))
        loss = (entropy + self.finetune.dice_weight * dice).mean()
        loss = loss + 0 * predicted.float().mean()  # gives every parameter a gradient, as distributed training needs
        terms: dict[str, float | Tensor] = {"dice": dice.detach().mean(), "lambda": self.finetune.dice_weight}
        return LossOutput(loss, entropy.detach(), level, terms, "segmentation")


def segmentation_loss(logits: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Cross entropy and soft Dice loss of each patch, (B,) each; both are 0 for a patch without scored positions.

    logits: (B, C, z, y, x).  classes: (B, z, y, x), index or NOT_SCORED.
    """
    scored = classes != NOT_SCORED
    count = scored.flatten(1).sum(1).clamp(min=1)
    wrong = F.cross_entropy(logits, classes, ignore_index=NOT_SCORED, reduction="none")
    entropy = wrong.flatten(1).sum(1) / count
    found = logits.softmax(1) * scored[:, None]
    truth = F.one_hot(classes.clamp(min=0), logits.shape[1]).movedim(-1, 1) * scored[:, None]
    both, either = (found * truth).flatten(2).sum(2), (found + truth).flatten(2).sum(2)
    return entropy, (1 - (2 * both + SMOOTHED) / (either + SMOOTHED)).mean(1)
