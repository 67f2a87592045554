"""What is minimised: the diffusion loss (stage 1), or diffusion and distillation (stage 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffseglung.method.diffusion import DiffusionModel
from diffseglung.method.distillation import (
    Standardiser,
    StudentHead,
    TeacherHead,
    as_rows,
    describe,
    family_weights,
    info_nce,
    soft_targets,
    warmup,
)
from diffseglung.method.train.data import Batch, Patches
from diffseglung.method.unet import UNet
from diffseglung.platform.config import DiffusionConfig, DistillConfig, IntensityConfig
from diffseglung.platform.runtime import Runtime, generator

POSITIONS = 4
"""Purpose of random numbers: the grid positions compared in the local loss (0 to 3 are in `data`)."""


@dataclass(frozen=True, eq=False)
class LossOutput:
    """Result of one micro-batch.

    loss:    scalar with gradient.
    patches: (B,) loss of each patch, detached: diffusion, or in stage 3 cross entropy.
    level:   (B,) noise level as a fraction of the chain.
    terms:   further terms of the loss for the journal: one scalar by name, and its weight as lambda.
    measure: name of the patch loss in the journal.
    """

    loss: Tensor
    patches: Tensor
    level: Tensor
    terms: dict[str, float | Tensor] = field(default_factory=dict)
    measure: str = "diffusion"


@dataclass(frozen=True, eq=False)
class Contrast:
    """The positions of the global batch compared in the contrastive loss, as needed by one micro-batch.

    descriptor: (N, 34) of all of them, from every process and micro-batch.
    where: (n,) indices of those in this micro-batch.  at: (n,) their rows in `descriptor`.
    parts: micro-batches in the global batch.
    """

    descriptor: Tensor
    where: Tensor
    at: Tensor
    parts: int


class Objective(nn.Module):
    """Interface of an objective; its forward pass is (batch, iteration, contrast) -> `LossOutput`."""

    network: UNet

    def exported(self) -> tuple[str, ...]:
        """Prefixes of the weights kept in a model file."""
        return ("network.",)

    def contrasts(self, batches: Sequence[Batch], iteration: int, runtime: Runtime) -> Sequence[Any]:
        """What each micro-batch needs from the others: nothing."""
        return [None] * len(batches)


class DiffusionObjective(Objective):
    """Stage 1: predict the noise in lung patches (L1 loss as published)."""

    def __init__(self, network: UNet, config: DiffusionConfig) -> None:
        super().__init__()
        self.network = network
        self.model = DiffusionModel.of(network, config)

    def forward(self, batch: Batch, iteration: int, contrast: None = None) -> LossOutput:
        """Loss of one micro-batch."""
        each, _ = self.model.loss(batch.clean, batch.lung, batch.noise, batch.step)
        return LossOutput(each.mean(), each.detach(), batch.step / self.model.config.steps)


class DistillObjective(Objective):
    """Stage 2: diffusion loss + lambda * contrastive loss between student features and radiomic teacher.

    published: the student vector of a patch is the normalised mean over positions; negatives are the other patches of
    the global batch. local: grid positions in the lung, drawn from all patches of the global batch whose noise level is
    at most `max_level`; soft targets. Student vectors are compared with teacher vectors only, which need no network:
    every micro-batch and process has all descriptors compared, and adds the loss of its own student vectors.
    """

    family: Tensor

    def __init__(
        self, network: UNet, config: DiffusionConfig, *, distill: DistillConfig, intensity: IntensityConfig, seed: int
    ) -> None:
        super().__init__()
        self.network = network
        self.model = DiffusionModel.of(network, config)
        self.distill, self.intensity, self.seed = distill, intensity, seed
        self.head = StudentHead(network, distill)
        self.standardiser = Standardiser(logs=distill.loss == "local")
        self.teacher_head = TeacherHead(len(self.standardiser.mean), distill)
        self.register_buffer("family", family_weights(), persistent=False)

    def exported(self) -> tuple[str, ...]:
        """Prefixes of the weights kept in a model file: the teacher head is dropped."""
        return ("network.", "head.", "standardiser.")

    @torch.no_grad()
    def contrasts(self, batches: Sequence[Batch], iteration: int, runtime: Runtime) -> list[Contrast]:
        """What is compared in an iteration, for each micro-batch of this process; every process must call this."""
        found = [self._usable(batch) for batch in batches]
        counts = torch.zeros(len(batches), runtime.world_size, dtype=torch.long, device=runtime.device)
        counts[:, runtime.rank] = torch.tensor([len(index) for _, index in found])
        ends = runtime.summed(counts).flatten().cumsum(0).tolist()  # in the order of the global batch
        order = torch.arange(ends[-1])
        if self.distill.loss == "local":
            dice = generator(self.seed, POSITIONS, iteration)
            order = torch.randperm(ends[-1], generator=dice)[: self.distill.positions]
        descriptor = torch.zeros(len(order), len(self.standardiser.mean), device=runtime.device)
        own = []
        for micro, (rows, index) in enumerate(found):
            end = ends[micro * runtime.world_size + runtime.rank]
            at = torch.nonzero((order >= end - len(index)) & (order < end))[:, 0]
            where = index[(order[at] - (end - len(index))).to(index.device)]
            at = at.to(index.device)
            descriptor[at] = rows[where]
            own.append((where, at))
        runtime.summed(descriptor)
        return [Contrast(descriptor, where, at, counts.numel()) for where, at in own]

    def _usable(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Descriptors (positions, 34) of a micro-batch, and the indices of the usable ones."""
        descriptor = batch.teacher
        if descriptor is None:
            descriptor = describe(batch.clean, batch.lung, self.intensity, self.distill)
        rows = as_rows(descriptor.float())
        usable = torch.isfinite(rows).all(1)
        if self.distill.loss == "local":
            quiet = batch.step / self.model.config.steps <= self.distill.max_level
            usable &= quiet.repeat_interleave(len(rows) // len(quiet))
        return rows, torch.nonzero(usable)[:, 0]

    def forward(self, batch: Batch, iteration: int, contrast: Contrast) -> LossOutput:
        """Loss of one micro-batch; the mean over all of them is the loss of the global batch."""
        each, taps = self.model.loss(batch.clean, batch.lung, batch.noise, batch.step)
        student = self.head(taps)  # (B, D, z, y, x)
        with torch.autocast(student.device.type, enabled=False):  # distances of similar positions need float32
            contrastive = self._contrastive(student, contrast)
        weight = warmup(iteration, self.distill)
        terms: dict[str, float | Tensor] = {"contrastive": contrastive.detach(), "lambda": weight}
        return LossOutput(
            each.mean() + weight * contrastive, each.detach(), batch.step / self.model.config.steps, terms
        )

    def _contrastive(self, student: Tensor, contrast: Contrast) -> Tensor:
        """This micro-batch's part of the mean over all N positions, times the number of micro-batches.

        It depends on every parameter even without positions, as distributed training requires.
        """
        fixed = self.standardiser(contrast.descriptor)
        if self.distill.loss == "published":
            rows = F.normalize(student.flatten(2).mean(2), dim=1)
            targets = torch.eye(len(fixed), device=fixed.device)
        else:
            rows = as_rows(student)
            targets = soft_targets(fixed, self.family, self.distill.teacher_temperature)
        mine, wanted = rows[contrast.where], targets[contrast.at]
        each = info_nce(mine, self.teacher_head(fixed), wanted, self.distill.temperature)
        return contrast.parts * each.sum() / max(len(fixed), 1)


def fit_standardiser(objective: DistillObjective, patches: Patches, *, at_most: int = 256) -> None:
    """Estimate the teacher's statistics from evenly spaced training patches (the same in all processes)."""
    stored, rows = patches.teacher(objective.distill), []
    for index in torch.linspace(0, len(patches) - 1, min(at_most, len(patches))).long().tolist():
        if stored is not None:
            descriptor = torch.from_numpy(stored[index].astype("float32"))[None]
        else:
            clean = torch.from_numpy(patches.ct[index].astype("float32"))[None, None]
            lung = torch.from_numpy(patches.mask[index].copy())[None, None]
            descriptor = describe(clean, lung, objective.intensity, objective.distill)
        rows.append(as_rows(descriptor).float())
    objective.standardiser.fit(torch.cat(rows))
