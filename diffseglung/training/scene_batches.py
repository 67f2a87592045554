"""Batches of stage 3: random patches made on the fly, each used once.

As in `method.train.data`, every random draw is seeded by (seed, iteration, position of the patch in the global batch).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffseglung.case.intensity import normalise
from diffseglung.labels import TISSUES
from diffseglung.method.train.data import NOISE, Batch
from diffseglung.phantom.backgrounds import Background
from diffseglung.phantom.random_patches import random_patch
from diffseglung.platform.config import FinetuneConfig, IntensityConfig, TrainConfig
from diffseglung.platform.runtime import Runtime, patch_noise

SCENE = 7
"""Seed word for everything of a patch but its noise (0 to 4 are in `method.train`)."""
NOT_SCORED = -1
"""Class of positions outside the lungs or without a right label."""


@dataclass(frozen=True, eq=False)
class SceneDraws:
    """The batches of one process.  steps: length T of the chain.  stride: voxels between positions of the network."""

    backgrounds: Sequence[Background]
    config: TrainConfig
    finetune: FinetuneConfig
    intensity: IntensityConfig
    steps: int
    stride: int
    rank: int = 0
    world_size: int = 1

    @classmethod
    def of(
        cls, backgrounds: Sequence[Background], config: TrainConfig, finetune: FinetuneConfig, *,
        intensity: IntensityConfig, steps: int, stride: int, runtime: Runtime,
    ) -> SceneDraws:  # fmt: skip
        """The draws of this process."""
        return cls(backgrounds, config, finetune, intensity, steps, stride, runtime.rank, runtime.world_size)

    def batch(self, iteration: int, micro: int = 0) -> Batch:
        """Micro-batch `micro` of an iteration for this process; its `teacher` is the class of each position."""
        first = (micro * self.world_size + self.rank) * self.config.batch_size
        items = [self._item(iteration, first + i) for i in range(self.config.batch_size)]
        return Batch(*(torch.stack(list(column)) for column in zip(*items, strict=True)))

    def _item(self, iteration: int, place: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """clean, lung, noise (1, Z, Y, X) each, the step, and the classes."""
        rng = np.random.default_rng([self.config.seed, SCENE, iteration, place])
        patch = random_patch(self.backgrounds, rng, self.finetune.shape)
        noisiest = int(self.finetune.max_level * self.steps)
        step = 0 if rng.random() < self.finetune.noise_free else int(rng.integers(noisiest + 1))
        clean = torch.from_numpy(normalise(patch.ct, self.intensity))[None]
        lung = torch.from_numpy(patch.lung.astype(np.float32))[None]
        noise = patch_noise(tuple(clean.shape), self.config.seed, NOISE, iteration, place)
        return clean, lung, noise, torch.tensor(step), classes_at(patch.truth, self.stride)


def classes_at(truth: NDArray[np.uint8], stride: int) -> Tensor:
    """Class index of every cell of `stride` voxels, NOT_SCORED outside the lungs and where unknown.

    Taken at the voxel at which features are computed (`tissue.local.middle`).

    >>> classes_at(np.ones((4, 4, 4), np.uint8), 2).shape
    torch.Size([2, 2, 2])
    """
    middle = truth[tuple(slice(stride // 2, None, stride) for _ in range(3))].astype(np.int64) - 1
    return torch.from_numpy(np.where((middle >= 0) & (middle < len(TISSUES)), middle, NOT_SCORED))
