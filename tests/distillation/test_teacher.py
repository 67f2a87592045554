"""The teacher of a patch: its grid, its scaling, and its blindness to flips."""

from __future__ import annotations

import pytest
import torch

from diffseglung.config import DistillConfig, IntensityConfig
from diffseglung.distillation.teacher import Standardiser, as_rows, describe, family_weights, mirrored_pairs, to_hu
from diffseglung.errors import TrainingError
from diffseglung.radiomics.descriptor import DESCRIPTOR_NAMES


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
