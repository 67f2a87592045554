"""Contrastive losses between student and teacher vectors, and the warm-up of their weight."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from diffseglung.config import DistillConfig


def info_nce(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """InfoNCE as published: each patch's student must find its own teacher among those of the batch.

    student, teacher: (N, D) unit vectors, row i of both from patch i. Mean over i of
    -log(exp(s_i . t_i / tau) / sum_j exp(s_i . t_j / tau)) (van den Oord et al. 2018, eq. 4), student to teacher.
    Zero for N = 1, where there are no negatives.
    """
    logits = student @ teacher.T / temperature  # (N, N)
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


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


def local_info_nce(student: Tensor, teacher: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """InfoNCE between grid positions with soft targets, as the excess over its least possible value.

    student, teacher: (N, D) unit vectors of the same N positions.  targets: (N, N) of `soft_targets`.
    Mean over i of KL(targets_i || softmax_j(s_i . t_j / tau)): the cross-entropy less the entropy of the targets, so
    that 0 is perfect whatever the batch. With one-hot targets it equals `info_nce`. A constant student or teacher
    predicts 1/N everywhere and pays log N less the targets' entropy, hence collapse is never a minimum.
    """
    predicted = F.log_softmax(student @ teacher.T / temperature, dim=1)  # (N, N)
    return F.kl_div(predicted, targets, reduction="batchmean")


def warmup(iteration: int, config: DistillConfig) -> float:
    """Weight lambda of the contrastive loss: 0 up to warmup_start, then linear up to lambda_max at warmup_end."""
    if iteration >= config.warmup_end and iteration >= config.warmup_start:
        return config.lambda_max
    span = max(config.warmup_end - config.warmup_start, 1)
    return config.lambda_max * min(max((iteration - config.warmup_start) / span, 0.0), 1.0)
