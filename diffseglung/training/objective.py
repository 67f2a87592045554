"""What is minimised: the diffusion loss (stage 1), or the diffusion loss and the distillation (stage 2)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffseglung.config import DiffusionConfig, DistillConfig, IntensityConfig
from diffseglung.distillation import losses
from diffseglung.distillation.heads import StudentHead, TeacherHead
from diffseglung.distillation.teacher import Standardiser, as_rows, describe, family_weights
from diffseglung.model.diffusion import DiffusionModel
from diffseglung.model.unet import UNet
from diffseglung.runtime import generator
from diffseglung.training.data import Batch, Patches

POSITIONS = 4
"""Purpose of random numbers: which grid positions meet in the local loss (0 to 3 are in training.data)."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one micro-batch gave.

    loss:    scalar with gradient.
    patches: (B,) diffusion loss of each patch, detached.
    level:   (B,) noise level as a fraction of the chain.
    terms:   further scalars for the journal, by name.
    """

    loss: Tensor
    patches: Tensor
    level: Tensor
    terms: dict[str, float | Tensor] = field(default_factory=dict)


class DiffusionObjective(nn.Module):
    """Stage 1: predict the noise in lung patches (L1 as published)."""

    def __init__(self, network: UNet, config: DiffusionConfig) -> None:
        super().__init__()
        self.network = network
        self.model = DiffusionModel.of(network, config)

    def forward(self, batch: Batch, iteration: int, rank: int = 0) -> Outcome:
        """Loss of one micro-batch."""
        each, _ = self.model.loss(batch.clean, batch.lung, batch.noise, batch.step)
        return Outcome(each.mean(), each.detach(), batch.step / self.model.config.steps)

    def exported(self) -> tuple[str, ...]:
        """Prefixes of the weights that a checkpoint for use keeps."""
        return ("network.",)


class DistillObjective(nn.Module):
    """Stage 2: diffusion loss + lambda * contrastive loss between student features and radiomic teacher.

    published: the student vector of a patch is the mean over positions, normalised; negatives are the other patches of
    the process's batch. local: grid positions in the lung, drawn from all patches of the process's batch whose noise
    level is at most `max_level`; soft targets. Negatives never cross processes, so no gathering is needed.
    """

    family: Tensor

    def __init__(
        self, network: UNet, config: DiffusionConfig, *, distill: DistillConfig, intensity: IntensityConfig, seed: int
    ) -> None:
        super().__init__()
        self.network = network
        self.model = DiffusionModel.of(network, config)
        self.distill, self.intensity, self.seed = distill, intensity, seed
        self.head = StudentHead.of(network, distill)
        self.standardiser = Standardiser(logs=distill.loss == "local")
        self.teacher_head = TeacherHead(len(self.standardiser.mean), distill)
        self.register_buffer("family", family_weights(), persistent=False)

    def exported(self) -> tuple[str, ...]:
        """Prefixes of the weights that a checkpoint for use keeps: the teacher's head is dropped."""
        return ("network.", "head.", "standardiser.")

    def forward(self, batch: Batch, iteration: int, rank: int = 0) -> Outcome:
        """Loss of one micro-batch."""
        each, taps = self.model.loss(batch.clean, batch.lung, batch.noise, batch.step)
        descriptor = batch.teacher
        if descriptor is None:
            descriptor = describe(batch.clean, batch.lung, self.intensity, self.distill)
        student, level = self.head(taps), batch.step / self.model.config.steps  # (B, D, z, y, x)
        with torch.autocast(student.device.type, enabled=False):  # distances of like positions need float32
            if self.distill.loss == "published":
                contrast = self.published(student, descriptor)
            else:
                contrast = self.local(student, descriptor, level, generator(self.seed, POSITIONS, iteration, rank))
        weight = losses.warmup(iteration, self.distill)
        terms: dict[str, float | Tensor] = {"contrastive": contrast.detach(), "lambda": weight}
        return Outcome(each.mean() + weight * contrast, each.detach(), level, terms)

    def published(self, student: Tensor, descriptor: Tensor) -> Tensor:
        """InfoNCE between patch means (B, D, ...) and patch descriptors (B, 34)."""
        mine = F.normalize(student.flatten(2).mean(2), dim=1)
        keep = torch.isfinite(descriptor).all(1)
        if int(keep.sum()) < 2:
            return self.nothing(mine)
        theirs = self.teacher_head(self.standardiser(descriptor[keep]))
        return losses.info_nce(mine[keep], theirs, self.distill.temperature)

    def local(self, student: Tensor, descriptor: Tensor, level: Tensor, dice: torch.Generator) -> Tensor:
        """Soft-target InfoNCE between grid positions; student (B, D, z, y, x), descriptor (B, 34, z, y, x)."""
        if descriptor.shape[2:] != student.shape[2:]:
            z, y, x = student.shape[2:]
            descriptor = descriptor[:, :, :z, :y, :x]
        rows, targets = as_rows(student), as_rows(descriptor)
        quiet = (level <= self.distill.max_level).repeat_interleave(len(rows) // len(level))
        usable = torch.nonzero(quiet & torch.isfinite(targets).all(1))[:, 0]
        if len(usable) < 2:
            return self.nothing(rows)
        order = torch.randperm(len(usable), generator=dice)[: self.distill.positions]
        chosen = usable[order.to(usable.device)]
        fixed = self.standardiser(targets[chosen])
        soft = losses.soft_targets(fixed, self.family, self.distill.teacher_temperature)
        return losses.local_info_nce(rows[chosen], self.teacher_head(fixed), soft, self.distill.temperature)

    def nothing(self, student: Tensor) -> Tensor:
        """Zero that still reaches every parameter, which distributed training needs."""
        silent = self.teacher_head(torch.zeros_like(self.standardiser.mean)[None])
        total: Tensor = student.sum() + silent.sum()
        return 0.0 * total


def fit_standardiser(objective: DistillObjective, patches: Patches, *, at_most: int = 256) -> None:
    """Estimate the teacher's statistics from evenly spaced training patches (the same in every process)."""
    published = objective.distill.loss == "published"
    stored = patches.whole if published else patches.dense
    rows = []
    for index in torch.linspace(0, len(patches) - 1, min(at_most, len(patches))).long().tolist():
        if stored is not None:
            descriptor = torch.from_numpy(stored[index].astype("float32"))[None]
        else:
            clean = torch.from_numpy(patches.ct[index].astype("float32"))[None, None]
            lung = torch.from_numpy(patches.mask[index].copy())[None, None]
            descriptor = describe(clean, lung, objective.intensity, objective.distill)
        rows.append(as_rows(descriptor).float())
    objective.standardiser.fit(torch.cat(rows))
