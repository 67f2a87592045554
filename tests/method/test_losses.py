"""Contrastive losses: closed forms, no collapse, and the warm-up."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from diffseglung.method.losses import info_nce, soft_targets, warmup
from diffseglung.platform.config import DistillConfig


def published(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    return info_nce(student, teacher, torch.eye(len(teacher)), temperature).mean()


def local(student: torch.Tensor, teacher: torch.Tensor, targets: torch.Tensor, temperature: float) -> torch.Tensor:
    return info_nce(student, teacher, targets, temperature).mean()


def unit(count: int, size: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(count, size, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_published_loss_is_the_written_formula():
    student, teacher, tau = unit(6, 8), unit(6, 8, 1), 0.07
    terms = []
    for i in range(6):
        scores = [float(student[i] @ teacher[j]) / tau for j in range(6)]
        terms.append(math.log(sum(math.exp(s - scores[i]) for s in scores)))
    assert float(published(student, teacher, tau)) == pytest.approx(sum(terms) / 6, rel=1e-5)


def test_a_constant_student_pays_log_n():
    student = unit(1, 8).expand(10, 8)
    assert float(published(student, student, 0.07)) == pytest.approx(math.log(10), rel=1e-5)


def test_alignment_is_better_than_any_shuffle():
    vectors = torch.eye(8)
    aligned = float(published(vectors, vectors, 0.07))
    assert aligned == pytest.approx(math.log(1 + 7 * math.exp(-1 / 0.07)), abs=1e-6)
    assert float(published(vectors, vectors.roll(1, 0), 0.07)) > aligned + 10


def test_one_patch_has_no_negatives_and_no_loss():
    assert float(published(unit(1, 4), unit(1, 4, 1), 0.1)) == 0


def test_the_loss_of_some_students_is_that_which_they_have_among_all():
    """So micro-batches and processes can each take their own."""
    student, teacher = unit(7, 5), unit(7, 5, 1)
    targets = soft_targets(torch.randn(7, 3, generator=torch.Generator().manual_seed(2)), torch.full((3,), 1 / 3), 0.3)
    whole = info_nce(student, teacher, targets, 0.1)
    some = torch.tensor([4, 1])
    torch.testing.assert_close(info_nce(student[some], teacher, targets[some], 0.1), whole[some])
    assert info_nce(student[:0], teacher, targets[:0], 0.1).shape == (0,)


def test_local_loss_of_a_collapsed_student_is_log_n_less_the_entropy_of_the_targets():
    rows = torch.randn(12, 4, generator=torch.Generator().manual_seed(3))
    targets = soft_targets(rows, torch.full((4,), 0.25), 0.5)
    entropy = -(targets * targets.clamp(min=1e-30).log()).sum(1).mean()
    constant = unit(1, 6).expand(12, 6)
    loss = float(local(constant, unit(12, 6, 2)[:1].expand(12, 6), targets, 0.07))
    assert loss == pytest.approx(math.log(12) - float(entropy), rel=1e-4)
    assert loss > 0


def test_local_loss_is_zero_only_for_the_right_similarities():
    rows = torch.tensor([[0.0], [0.0], [3.0]])
    targets = soft_targets(rows, torch.ones(1), 0.1)
    far = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert float(local(far, far, targets, 0.02)) < 1e-6
    assert float(local(far, far.roll(1, 0), targets, 0.02)) > 1


def test_near_identical_positions_are_not_negatives():
    """Two like positions share their target; telling them apart costs more under the soft than the hard loss."""
    rows = torch.tensor([[0.0], [1e-4], [3.0]])
    targets = soft_targets(rows, torch.ones(1), 0.1)
    torch.testing.assert_close(targets[0, :2], torch.tensor([0.5, 0.5]), atol=1e-3, rtol=0)
    alike = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    apart = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    assert local(alike, alike, targets, 0.05) < local(apart, apart, targets, 0.05)
    assert published(alike, alike, 0.05) > published(apart, apart, 0.05)


def test_training_free_vectors_on_the_local_loss_does_not_collapse():
    """Student and teacher vectors that only follow the gradient end up ordered like the descriptors."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(24, 3, generator=generator)
    targets = soft_targets(rows, torch.full((3,), 1 / 3), 0.1)
    student = torch.nn.Parameter(unit(1, 8).repeat(24, 1) + 0.01 * torch.randn(24, 8, generator=generator))
    head = torch.nn.Linear(3, 8)
    torch.nn.init.normal_(head.weight, generator=generator)
    optimiser = torch.optim.Adam([student, *head.parameters()], lr=0.05)
    losses = []
    for _ in range(150):
        loss = local(F.normalize(student, dim=1), F.normalize(head(rows), dim=1), targets, 0.07)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    assert float(F.normalize(student.detach(), dim=1).std(0).sum()) > 0.5


def test_soft_targets_sum_to_one_and_ignore_weightless_descriptors():
    rows = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    weight = torch.tensor([0.5, 0.5, 0.0])
    targets = soft_targets(rows, weight, 0.3)
    torch.testing.assert_close(targets.sum(1), torch.ones(5))
    rows[:, 2] = 100
    torch.testing.assert_close(soft_targets(rows, weight, 0.3), targets)


@pytest.mark.parametrize(("iteration", "value"), [(0, 0), (4000, 0), (5000, 0.25), (6000, 0.5), (99999, 0.5)])
def test_warmup_is_zero_then_linear_then_flat(iteration, value):
    assert warmup(iteration, DistillConfig(warmup_start=4000, warmup_end=6000, lambda_max=0.5)) == pytest.approx(value)


def test_warmup_of_no_length_is_a_step():
    config = DistillConfig(warmup_start=10, warmup_end=10, lambda_max=1.0)
    assert [warmup(i, config) for i in (9, 10, 11)] == [0, 1, 1]
