"""The radiomic teacher of a training patch: descriptors on the feature grid or of the whole patch, standardised.

The teacher is fixed and has no gradient. Its statistics come from the training patches and travel in the checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from diffseglung.method.radiomics.batch import describe_batch
from diffseglung.method.radiomics.dense import describe_dense
from diffseglung.method.radiomics.descriptor import DESCRIPTOR_NAMES
from diffseglung.platform.config import DistillConfig, IntensityConfig
from diffseglung.platform.errors import TrainingError

LIMIT = 4.0
"""Standardised descriptors are clipped here: skewness and kurtosis have long tails."""
LOGARITHMIC = ("gabor", "glcm_contrast", "glcm_asm")
FLOOR = 1e-6
"""Least value whose logarithm is taken; a flat window has energy 0."""


def to_hu(clean: Tensor, intensity: IntensityConfig) -> Tensor:
    """Model units [-1, 1] back to HU."""
    return (clean + 1) / 2 * (intensity.high_hu - intensity.low_hu) + intensity.low_hu


@torch.no_grad()
def describe(clean: Tensor, lung: Tensor, intensity: IntensityConfig, distill: DistillConfig) -> Tensor:
    """Descriptors of patches: (B, 34) for the published loss, (B, 34, z, y, x) with NaN off the lung for the local one.

    clean: (B, 1, Z, Y, X) in model units.  lung: (B, 1, Z, Y, X), 0 or 1.
    """
    hu, inside = to_hu(clean.float(), intensity)[:, 0], lung[:, 0] > 0
    if distill.loss == "published":
        return describe_batch(hu, inside)
    return describe_dense(hu, inside, stride=distill.grid_stride, window=distill.window)


def family_weights(names: Sequence[str] = DESCRIPTOR_NAMES) -> Tensor:
    """(F,) weights of the descriptors in a distance; each family (HU, GLCM, LBP, Gabor) weighs as much as another.

    Without them the 23 correlated LBP and Gabor values would outvote density.
    """
    families = [next((f for f in ("glcm", "lbp", "gabor") if f in name.lower()), "hu") for name in names]
    return torch.tensor([1 / families.count(family) / len(set(families)) for family in families])


def mirrored_pairs(names: Sequence[str] = DESCRIPTOR_NAMES) -> list[tuple[int, int]]:
    """Indices of the Gabor energies at 45 and at 135 degrees, of one frequency each.

    A flipped patch exchanges them in some of the three planes, so only their mean does not notice flips.
    """
    return [(names.index(name), names.index(f"{name[:-3]}135")) for name in names if name.endswith("_045")]


class Standardiser(nn.Module):
    """Makes descriptors blind to flips, and brings them to zero mean and unit deviation over the training patches.

    Tails are clipped. With `logs`, energies, contrast and ASM are taken as logarithms: on small windows they spread
    over three decades, and a few vessels would set their scale (the local loss; the published one keeps them plain).
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, names: Sequence[str] = DESCRIPTOR_NAMES, *, logs: bool = False) -> None:
        super().__init__()
        self.names = list(names)
        self.logarithmic = [i for i, name in enumerate(names) if logs and name.startswith(LOGARITHMIC)]
        self.register_buffer("mean", torch.zeros(len(names)))
        self.register_buffer("scale", torch.ones(len(names)))

    def even(self, rows: Tensor) -> Tensor:
        """Both diagonal energies of each frequency replaced by their mean, then logarithms taken."""
        rows = rows.clone()
        for low, high in mirrored_pairs(self.names):
            rows[:, [low, high]] = rows[:, [low, high]].mean(1, keepdim=True)
        rows[:, self.logarithmic] = rows[:, self.logarithmic].clamp(min=FLOOR).log()
        return rows

    def fit(self, rows: Tensor) -> None:
        """Estimate from descriptors (N, F); rows with NaN are left out."""
        rows = self.even(rows[torch.isfinite(rows).all(1)].double())
        if len(rows) < 2:
            raise TrainingError(
                "the training patches give no radiomic descriptors", remedy="check that the patches' masks hold lung"
            )
        self.mean.copy_(rows.mean(0))
        deviation = rows.std(0)
        self.scale.copy_(torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation)))

    def forward(self, rows: Tensor) -> Tensor:
        """(N, F) -> (N, F)."""
        return ((self.even(rows.float()) - self.mean) / self.scale).clamp(-LIMIT, LIMIT)


def as_rows(descriptor: Tensor) -> Tensor:
    """Descriptors (B, F) or (B, F, z, y, x) as rows (N, F)."""
    return descriptor if descriptor.ndim == 2 else descriptor.movedim(1, -1).flatten(0, -2)
