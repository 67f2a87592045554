"""Radiomic distillation: the teacher's descriptors, the two projection heads, InfoNCE and its warm-up.

The teacher is fixed and has no gradient. Its statistics come from the training patches and are stored in the
checkpoint together with the student head; the teacher head is dropped after training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffseglung.method.checkpoint import first_line
from diffseglung.method.radiomics.dense import describe_dense
from diffseglung.method.radiomics.descriptor import DESCRIPTOR_NAMES, describe_batch
from diffseglung.method.unet import UNet
from diffseglung.platform.config import DistillConfig, IntensityConfig
from diffseglung.platform.errors import CheckpointError, ConfigError, TrainingError

LIMIT = 4.0
"""Standardised descriptors are clipped to +-LIMIT: skewness and kurtosis have long tails."""
LOGARITHMIC = [i for i, name in enumerate(DESCRIPTOR_NAMES) if name.startswith(("gabor", "glcm_contrast", "glcm_asm"))]
FLOOR = 1e-6
"""Smallest value whose logarithm is taken: a flat window has energy 0."""


def to_hu(clean: Tensor, intensity: IntensityConfig) -> Tensor:
    """Model units [-1, 1] to HU.

    >>> to_hu(torch.tensor([-1.0, 0.0, 1.0]), IntensityConfig())
    tensor([-1000.,  -300.,   400.])
    """
    return (clean + 1) / 2 * (intensity.high_hu - intensity.low_hu) + intensity.low_hu


@torch.no_grad()
def describe(clean: Tensor, lung: Tensor, intensity: IntensityConfig, distill: DistillConfig) -> Tensor:
    """Descriptors of patches: (B, 34) for the published loss; for the local one (B, 34, z, y, x), NaN outside the lung.

    clean: (B, 1, Z, Y, X) in model units.  lung: (B, 1, Z, Y, X), 0 or 1.
    """
    hu, inside = to_hu(clean.float(), intensity)[:, 0], lung[:, 0] > 0
    if distill.loss == "published":
        return describe_batch(hu, inside)
    return describe_dense(hu, inside, stride=distill.grid_stride, window=distill.window)


def family_weights() -> Tensor:
    """(34,) weights of the descriptors in a distance: equal for the four families HU, GLCM, LBP and Gabor.

    Without them the 23 correlated LBP and Gabor values would outvote density.
    """
    families = [name.partition("_")[0] for name in DESCRIPTOR_NAMES]
    return torch.tensor([1 / families.count(family) / len(set(families)) for family in families])


def mirrored_pairs() -> list[tuple[int, int]]:
    """Indices of the Gabor energies at 45 and at 135 degrees, one pair for each frequency.

    Flipping a patch exchanges the two in some of the three planes; only their mean is invariant.
    """
    names = DESCRIPTOR_NAMES
    return [(names.index(name), names.index(f"{name[:-3]}135")) for name in names if name.endswith("_045")]


class Standardiser(nn.Module):
    """Makes descriptors invariant to flips and scales them to zero mean and unit deviation over the training patches.

    Tails are clipped. With `logs` (the local loss), energies, contrast and ASM are replaced by their logarithms: on
    small windows they span three decades, and a few vessels would set their scale.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, *, logs: bool = False) -> None:
        super().__init__()
        self.logs = logs
        self.register_buffer("mean", torch.zeros(len(DESCRIPTOR_NAMES)))
        self.register_buffer("scale", torch.ones(len(DESCRIPTOR_NAMES)))

    def even(self, rows: Tensor) -> Tensor:
        """Rows (N, 34) with the diagonal energies of each frequency replaced by their mean, then logarithms taken."""
        rows = rows.clone()
        for low, high in mirrored_pairs():
            rows[:, [low, high]] = rows[:, [low, high]].mean(1, keepdim=True)
        if self.logs:
            rows[:, LOGARITHMIC] = rows[:, LOGARITHMIC].clamp(min=FLOOR).log()
        return rows

    def fit(self, rows: Tensor) -> None:
        """Estimate mean and scale from descriptors (N, 34), ignoring rows with NaN.  Raises TrainingError."""
        rows = self.even(rows[torch.isfinite(rows).all(1)].double())
        if len(rows) < 2:
            raise TrainingError(
                "the training patches give no radiomic descriptors", remedy="check that the patches' masks contain lung"
            )
        self.mean.copy_(rows.mean(0))
        deviation = rows.std(0)
        self.scale.copy_(torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation)))

    def forward(self, rows: Tensor) -> Tensor:
        """(N, 34) -> (N, 34)."""
        return ((self.even(rows.float()) - self.mean) / self.scale).clamp(-LIMIT, LIMIT)


def as_rows(descriptor: Tensor) -> Tensor:
    """Descriptors (B, F) or (B, F, z, y, x) as rows (N, F)."""
    return descriptor if descriptor.ndim == 2 else descriptor.movedim(1, -1).flatten(0, -2)


class StudentHead(nn.Module):
    """Network taps to unit feature vectors: two 1x1x1 convolutions, then L2 normalisation at each position.

    The published loss uses the bottleneck on its own grid (256 -> 256 -> 128). The local loss resamples the chosen
    taps to a grid of `grid_stride` voxels (finer ones averaged, coarser ones interpolated) and concatenates them.
    """

    def __init__(self, network: UNet, config: DistillConfig) -> None:
        """network: whose taps are read.  Raises ConfigError for taps that it lacks or strides that do not fit."""
        super().__init__()
        channels, strides = network.tap_channels, network.tap_strides
        self.taps = ("bottleneck",) if config.loss == "published" else config.taps
        for name in self.taps:
            if name not in channels:
                raise ConfigError(f"the network has no tap {name!r}", remedy=f"choose from {', '.join(channels)}")
        self.strides = {name: strides[name] for name in self.taps}
        self.stride = strides["bottleneck"] if config.loss == "published" else config.grid_stride
        for name, stride in self.strides.items():
            if max(stride, self.stride) % min(stride, self.stride):
                raise ConfigError(
                    f"tap {name} has stride {stride}, which is incompatible with grid_stride {self.stride}",
                    remedy="choose a grid_stride that divides, or is a multiple of, every tap's stride",
                )
        self.enter = nn.Conv3d(sum(channels[name] for name in self.taps), config.hidden, 1)
        self.leave = nn.Conv3d(config.hidden, config.dimensions, 1)

    def gather(self, taps: Mapping[str, Tensor]) -> Tensor:
        """The taps concatenated on the feature grid, (B, channels, z, y, x): a position every `stride` voxels."""
        return torch.cat([bring(taps[name], self.strides[name], self.stride) for name in self.taps], dim=1)

    def forward(self, taps: Mapping[str, Tensor]) -> Tensor:
        """Taps of `UNet.with_taps` -> unit vectors (B, dimensions, z, y, x) on the feature grid."""
        hidden = F.silu(self.enter(self.gather(taps)))  # (B, hidden, Z, Y, X)
        return F.normalize(self.leave(hidden).float(), dim=1)


class TeacherHead(nn.Module):
    """Descriptors to unit vectors: a perceptron of two layers (34 -> 128 -> 128)."""

    def __init__(self, descriptors: int, config: DistillConfig) -> None:
        super().__init__()
        self.enter = nn.Linear(descriptors, config.dimensions)
        self.leave = nn.Linear(config.dimensions, config.dimensions)

    def forward(self, descriptor: Tensor) -> Tensor:
        """(N, descriptors) standardised -> (N, dimensions) of length 1."""
        return F.normalize(self.leave(F.silu(self.enter(descriptor))).float(), dim=1)


def bring(tap: Tensor, stride: int, wanted: int) -> Tensor:
    """A tap (B, C, z, y, x) resampled from one stride to another: average pooling or trilinear interpolation."""
    if stride < wanted:
        return F.avg_pool3d(tap, wanted // stride)
    if stride > wanted:
        size = [n * stride // wanted for n in tap.shape[2:]]
        return F.interpolate(tap, size=size, mode="trilinear", align_corners=False)
    return tap


def load_student(weights: Mapping[str, Tensor], card: Any) -> StudentHead:
    """The student head (`head.*`) of a distilled checkpoint.  card: its `ModelCard`.  Raises CheckpointError."""
    own = {name.removeprefix("head."): value for name, value in weights.items() if name.startswith("head.")}
    if card.distill is None or not own:
        raise CheckpointError(
            "the checkpoint has no student head: it was not distilled",
            remedy="use a checkpoint written by diffseglung distill",
        )
    try:
        with torch.device("meta"):  # shapes alone: an absurd card takes no memory
            head = StudentHead(UNet(card.unet), card.distill)
        head.load_state_dict(own, assign=True)
    except (ValueError, RuntimeError, KeyError, TypeError, IndexError, ZeroDivisionError) as cause:
        raise CheckpointError(
            f"the student head does not fit its card ({first_line(cause)})",
            remedy="write the checkpoint again with diffseglung distill",
        ) from cause
    return head.eval()


def info_nce(student: Tensor, teacher: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """InfoNCE (n,) of each student vector against all teacher vectors, in excess of its minimum.

    student: (n, D) unit vectors, some of the N compared.  teacher: (N, D) unit vectors of all of them.
    targets: (n, N), rows that sum to 1. Row i gives KL(targets_i || softmax_j(s_i . t_j / tau)): the cross-entropy less
    the entropy of the targets, so that 0 is perfect whatever the batch. With one-hot targets it is the published loss,
    -log(exp(s_i . t_i / tau) / sum_j exp(s_i . t_j / tau)) (van den Oord et al. 2018, eq. 4), student to teacher; with
    those of `soft_targets` the local one. A constant student or teacher predicts 1/N everywhere and costs log N minus
    the entropy of the targets, so collapse is never a minimum. Zero for N = 1, where there are no negatives.

    >>> vectors = torch.eye(4)
    >>> info_nce(vectors, vectors, torch.eye(4), temperature=0.07).max() < 1e-5
    tensor(True)
    >>> info_nce(vectors, vectors.flip(0), torch.eye(4), temperature=0.07).min() > 10
    tensor(True)
    """
    predicted = F.log_softmax(student @ teacher.T / temperature, dim=1)  # (n, N)
    return F.kl_div(predicted, targets, reduction="none").sum(1)


def soft_targets(descriptor: Tensor, weight: Tensor, temperature: float) -> Tensor:
    """Similarity of positions by their descriptors: softmax over j of -d2(i, j) / temperature, (N, N).

    descriptor: (N, F) standardised, fixed (not learned).  weight: (F,) that sums to 1; d2 is the weighted mean of
    squared differences, about 2 for unrelated positions. A position is most similar to itself and shares its target
    with near-identical ones, which are therefore not negatives.
    """
    scaled = descriptor * weight.sqrt()
    squared = scaled.square().sum(1)
    distance = (squared[:, None] + squared[None, :] - 2 * scaled @ scaled.T).clamp(min=0)
    return torch.softmax(-distance / temperature, dim=1)


def warmup(iteration: int, config: DistillConfig) -> float:
    """Weight lambda of the contrastive loss: 0 up to warmup_start, then linear up to lambda_max at warmup_end.

    >>> config = DistillConfig(warmup_start=4000, warmup_end=6000, lambda_max=0.5)
    >>> [warmup(iteration, config) for iteration in (4000, 5000, 6000)]
    [0.0, 0.25, 0.5]
    """
    if iteration >= config.warmup_end and iteration >= config.warmup_start:
        return config.lambda_max
    span = max(config.warmup_end - config.warmup_start, 1)
    return config.lambda_max * min(max((iteration - config.warmup_start) / span, 0.0), 1.0)
