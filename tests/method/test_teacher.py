"""The teacher of a patch: its grid, its scaling, and its blindness to flips."""

from __future__ import annotations

import pytest
import torch

from diffseglung.method.radiomics.descriptor import DESCRIPTOR_NAMES
from diffseglung.method.teacher import Standardiser, as_rows, describe, family_weights, mirrored_pairs, to_hu
from diffseglung.platform.config import DistillConfig, IntensityConfig
from diffseglung.platform.errors import TrainingError


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
    with pytest.raises(TrainingError, match="masks hold lung"):
        Standardiser().fit(torch.rand(1, 34))


def test_rows_follow_the_grid():
    descriptor = torch.arange(48.0).reshape(2, 3, 2, 2, 2)
    rows = as_rows(descriptor)
    assert torch.equal(rows[0], descriptor[0, :, 0, 0, 0])
    assert torch.equal(rows[11], descriptor[1, :, 0, 1, 1])
    assert as_rows(rows) is rows
