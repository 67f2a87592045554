"""The teacher's descriptors, the projection heads, InfoNCE and its warm-up."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F

from diffseglung.method.distillation import (
    Standardiser,
    StudentHead,
    TeacherHead,
    as_rows,
    bring,
    describe,
    family_weights,
    info_nce,
    load_student,
    mirrored_pairs,
    soft_targets,
    to_hu,
    warmup,
)
from diffseglung.method.radiomics.descriptor import DESCRIPTOR_NAMES
from diffseglung.method.unet import UNet
from diffseglung.platform.config import UNETS, DistillConfig, IntensityConfig, UNetConfig
from diffseglung.platform.errors import CheckpointError, ConfigError, TrainingError


def patch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    clean = -0.8 + 0.1 * torch.randn(1, 1, 16, 16, 16, generator=generator)
    lung = torch.ones(1, 1, 16, 16, 16)
    lung[..., :4] = 0
    return clean, lung


def test_model_units_map_back_to_hu():
    assert to_hu(torch.tensor([-1.0, 0.0, 1.0]), IntensityConfig()).tolist() == [-1000, -300, 400]


def test_dense_descriptors_lie_on_the_feature_grid_and_are_unknown_off_the_lung():
    out = describe(*patch(), IntensityConfig(), DistillConfig(grid_stride=4, window=4))
    assert out.shape == (1, 34, 4, 4, 4)
    assert torch.isnan(out[..., 0]).all()
    assert torch.isfinite(out[..., 1:]).all()


def test_published_teacher_is_one_vector_a_patch():
    assert describe(*patch(), IntensityConfig(), DistillConfig(loss="published")).shape == (1, 34)


def test_standardised_rows_have_zero_mean_and_unit_deviation():
    rows = torch.rand(400, 34, dtype=torch.float64) * 5
    scaler = Standardiser()
    scaler.fit(rows)
    out = scaler(rows)
    torch.testing.assert_close(out.mean(0), torch.zeros(34), atol=1e-4, rtol=0)
    torch.testing.assert_close(out.std(0), torch.ones(34), atol=1e-3, rtol=0)


def test_rows_with_unknown_values_do_not_count():
    rows = torch.rand(50, 34)
    holes = torch.cat([rows, torch.full((5, 34), torch.nan)])
    one, two = Standardiser(), Standardiser()
    one.fit(rows)
    two.fit(holes)
    assert torch.equal(one.mean, two.mean)


def test_no_descriptor_at_all_is_an_error():
    with pytest.raises(TrainingError, match="no radiomic descriptors"):
        Standardiser().fit(torch.full((5, 34), torch.nan))


def test_a_constant_descriptor_does_not_divide_by_zero():
    scaler = Standardiser()
    scaler.fit(torch.ones(10, 34))
    assert torch.isfinite(scaler(torch.ones(1, 34))).all()


def test_families_weigh_alike_and_weights_sum_to_one():
    weights = family_weights()
    assert float(weights.sum()) == pytest.approx(1)
    for family in ("hu", "glcm", "lbp", "gabor"):
        own = [weights[i] for i, name in enumerate(DESCRIPTOR_NAMES) if name.startswith(family)]
        assert float(sum(own)) == pytest.approx(0.25)


def test_every_frequency_has_its_pair_of_diagonals():
    pairs = mirrored_pairs()
    assert len(pairs) == 3
    assert all(DESCRIPTOR_NAMES[a][:-3] == DESCRIPTOR_NAMES[b][:-3] for a, b in pairs)


@pytest.mark.parametrize("axes", [[-1], [-2], [-3], [-1, -3], [-1, -2, -3]])
@pytest.mark.parametrize("logs", [False, True])
def test_flipping_a_patch_flips_its_standardised_descriptors(axes, logs):
    """So that stored descriptors serve flipped patches: flip the grid, and no more."""
    clean, lung = patch()
    config = DistillConfig(grid_stride=4, window=8)
    scaler = Standardiser(logs=logs)
    straight = describe(clean, lung, IntensityConfig(), config)
    scaler.fit(as_rows(straight))
    turned = describe(clean.flip(axes), lung.flip(axes), IntensityConfig(), config)
    one, two = scaler(as_rows(straight.flip(axes))), scaler(as_rows(turned))
    known = torch.isfinite(one).all(1)
    assert torch.equal(known, torch.isfinite(two).all(1))
    torch.testing.assert_close(one[known], two[known], atol=2e-2, rtol=0)


def test_logarithms_stand_the_energy_of_a_flat_window():
    scaler = Standardiser(logs=True)
    rows = torch.rand(20, 34)
    scaler.fit(rows)
    assert torch.isfinite(scaler(torch.zeros(1, 34))).all()


@pytest.mark.parametrize("edge", [2, 4, 8])
def test_windows_as_large_as_their_stride_tell_the_mean_of_their_own_block(edge):
    """One position for each block of edge^3 voxels, and what it says of density is that block's mean HU."""
    clean, lung = patch()[0].clamp(-1, 1), torch.ones(1, 1, 16, 16, 16)
    out = describe(clean, lung, IntensityConfig(), DistillConfig(grid_stride=edge, window=edge))
    blocks = torch.nn.functional.avg_pool3d(to_hu(clean, IntensityConfig()), edge)
    torch.testing.assert_close(out[:, DESCRIPTOR_NAMES.index("hu_mean")], blocks[:, 0], rtol=1e-4, atol=1e-2)


def test_a_larger_window_looks_around_its_block():
    clean, lung = patch()[0].clamp(-1, 1), torch.ones(1, 1, 16, 16, 16)
    means = [
        describe(clean, lung, IntensityConfig(), DistillConfig(grid_stride=4, window=window))[0, 0, 1, 1, 1]
        for window in (4, 8)
    ]
    around = to_hu(clean, IntensityConfig())[0, 0, 2:10, 2:10, 2:10].mean()
    assert float(means[1]) == pytest.approx(float(around), abs=1e-2)
    assert float(means[0]) != pytest.approx(float(around), abs=1e-2)


def test_logarithms_are_taken_of_energies_contrast_and_asm_alone_and_on_demand():
    rows = torch.rand(5, 34) + 0.5
    plain, logs = Standardiser().even(rows), Standardiser(logs=True).even(rows)
    for i, name in enumerate(DESCRIPTOR_NAMES):
        taken = name.startswith("gabor") or name in ("glcm_contrast", "glcm_asm")
        torch.testing.assert_close(logs[:, i], plain[:, i].log() if taken else plain[:, i])
        if not name.endswith(("_045", "_135")):
            assert torch.equal(plain[:, i], rows[:, i])


def test_diagonals_of_one_frequency_become_their_mean():
    rows = torch.rand(5, 34)
    even = Standardiser().even(rows)
    for name in (name for name in DESCRIPTOR_NAMES if name.endswith("_045")):
        low, high = DESCRIPTOR_NAMES.index(name), DESCRIPTOR_NAMES.index(name.replace("_045", "_135"))
        for i in (low, high):
            torch.testing.assert_close(even[:, i], (rows[:, low] + rows[:, high]) / 2)


def test_long_tails_are_cut_at_four_deviations_on_both_sides():
    rows = torch.linspace(-1, 1, 101)[:, None].expand(-1, 34)
    scaler = Standardiser()
    scaler.fit(rows)
    far = torch.tensor([[-100.0], [100.0], [3.9], [0.0]]) * rows.std(0)
    assert scaler(far)[:, 0].tolist() == pytest.approx([-4, 4, 3.9, 0], abs=1e-5)


def test_two_rows_are_enough_and_one_is_not():
    Standardiser().fit(torch.rand(2, 34))
    with pytest.raises(TrainingError, match="masks contain lung"):
        Standardiser().fit(torch.rand(1, 34))


def test_rows_follow_the_grid():
    descriptor = torch.arange(48.0).reshape(2, 3, 2, 2, 2)
    rows = as_rows(descriptor)
    assert torch.equal(rows[0], descriptor[0, :, 0, 0, 0])
    assert torch.equal(rows[11], descriptor[1, :, 0, 1, 1])
    assert as_rows(rows) is rows


TINY = UNETS["tiny"]


@dataclass
class Card:
    unet: UNetConfig
    distill: DistillConfig | None


def taps_of(network: UNet, shape: tuple[int, int, int] = (8, 16, 16)) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return network.with_taps(torch.randn(2, 2, *shape), torch.tensor([0.1, 0.5]))[1]


def test_local_features_lie_on_the_grid_and_have_length_one():
    network = UNet(TINY)
    out = StudentHead(network, DistillConfig(grid_stride=4))(taps_of(network))
    assert out.shape == (2, 128, 2, 4, 4)
    torch.testing.assert_close(out.norm(dim=1), torch.ones(2, 2, 4, 4))


def test_published_features_are_the_bottleneck_alone():
    network = UNet(TINY)
    head = StudentHead(network, DistillConfig(loss="published"))
    taps = taps_of(network)
    assert head.taps == ("bottleneck",)
    assert head(taps).shape[2:] == taps["bottleneck"].shape[2:]
    assert head.enter.in_channels == network.tap_channels["bottleneck"]
    assert (head.enter.out_channels, head.leave.out_channels) == (256, 128)


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_bringing_a_constant_to_another_grid_keeps_it(stride):
    assert torch.equal(bring(torch.full((1, 2, 4, 4, 4), 3.0), 4, stride).unique(), torch.tensor([3.0]))


def test_averaging_down_is_the_mean_of_the_cell():
    tap = torch.arange(8.0).reshape(1, 1, 2, 2, 2)
    assert float(bring(tap, 2, 4)) == 3.5


def test_unknown_tap_is_a_setting_error():
    with pytest.raises(ConfigError, match="level7"):
        StudentHead(UNet(TINY), DistillConfig(taps=("level7",)))


def test_grid_that_does_not_fit_the_taps_is_a_setting_error():
    with pytest.raises(ConfigError, match="grid_stride 3"):
        StudentHead(UNet(TINY), DistillConfig(grid_stride=3))


def test_teacher_head_gives_unit_vectors():
    out = TeacherHead(34, DistillConfig())(torch.randn(5, 34))
    assert out.shape == (5, 128)
    torch.testing.assert_close(out.norm(dim=1), torch.ones(5))


def test_the_head_comes_back_from_weights_and_card():
    network, config = UNet(TINY), DistillConfig(grid_stride=4, dimensions=16)
    head = StudentHead(network, config)
    weights = {f"head.{name}": value for name, value in head.state_dict().items()} | {"network.x": torch.zeros(1)}
    again = load_student(weights, Card(TINY, config))
    taps = taps_of(network)
    torch.testing.assert_close(again(taps), head(taps))


def test_a_stage_one_checkpoint_has_no_head():
    with pytest.raises(CheckpointError, match="not distilled"):
        load_student({"network.x": torch.zeros(1)}, Card(TINY, DistillConfig()))


def test_a_head_of_another_size_is_refused():
    head = StudentHead(UNet(TINY), DistillConfig(dimensions=8))
    weights = {f"head.{name}": value for name, value in head.state_dict().items()}
    with pytest.raises(CheckpointError, match="does not fit its card"):
        load_student(weights, Card(TINY, DistillConfig(dimensions=16)))


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
