"""Contrastive losses between student and teacher vectors, and the warm-up of their weight."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from diffseglung.platform.config import DistillConfig


def info_nce(student: Tensor, teacher: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """InfoNCE of each student vector among all teachers (n,), as the excess over its least possible value.

    student: (n, D) unit vectors, some of the N that meet.  teacher: (N, D) unit vectors of all of them.
    targets: (n, N), rows that sum to 1. Row i gives KL(targets_i || softmax_j(s_i . t_j / tau)): the cross-entropy less
    the entropy of the targets, so that 0 is perfect whatever the batch. With one-hot targets it is the published loss,
    -log(exp(s_i . t_i / tau) / sum_j exp(s_i . t_j / tau)) (van den Oord et al. 2018, eq. 4), student to teacher; with
    those of `soft_targets` the local one. A constant student or teacher predicts 1/N everywhere and pays log N less the
    targets' entropy, hence collapse is never a minimum. Zero for N = 1, where there are no negatives.
    """
    predicted = F.log_softmax(student @ teacher.T / temperature, dim=1)  # (n, N)
    return F.kl_div(predicted, targets, reduction="none").sum(1)


def soft_targets(descriptor: Tensor, weight: Tensor, temperature: float) -> Tensor:
    """How alike positions are to the teacher: softmax over j of -d2(i, j) / temperature, rows sum to 1.

    descriptor: (N, F) standardised, fixed (not learned).  weight: (F,) that sums to 1; d2 is the weighted mean of
    squared differences, about 2 for unrelated positions. A position is most like itself, and shares its target with
    every near-identical one, which is thereby no negative.
    """
    scaled = descriptor * weight.sqrt()
    squared = scaled.square().sum(1)
    distance = (squared[:, None] + squared[None, :] - 2 * scaled @ scaled.T).clamp(min=0)
    return torch.softmax(-distance / temperature, dim=1)


def warmup(iteration: int, config: DistillConfig) -> float:
    """Weight lambda of the contrastive loss: 0 up to warmup_start, then linear up to lambda_max at warmup_end."""
    if iteration >= config.warmup_end and iteration >= config.warmup_start:
        return config.lambda_max
    span = max(config.warmup_end - config.warmup_start, 1)
    return config.lambda_max * min(max((iteration - config.warmup_start) / span, 0.0), 1.0)
