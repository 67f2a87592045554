import numpy as np
import pytest
import torch
from scipy import ndimage

from diffseglung.case.positions import positions
from diffseglung.method.fusion import (
    PRIOR_HU,
    PRIOR_SD,
    HuLikelihood,
    border_conductance,
    classes_nearby,
    diffuse,
    fuse,
    median_at,
    most_probable,
    neutral,
    sobel_magnitude,
    to_voxels,
)
from diffseglung.platform.config import FusionConfig


def two_tissues() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Healthy | consolidation with the true border at x = 19, between cell borders of the coarse grid."""
    shape = (16, 24, 40)
    hu = np.full(shape, -860, np.float32)
    hu[:, :, 19:] = 20
    hu += np.random.default_rng(0).normal(0, 15, shape).astype(np.float32)
    coarse = np.zeros((5, 4, 6, 10), np.float32)
    coarse[0, :, :, :5], coarse[4, :, :, 5:] = 0.9, 0.9
    coarse[0, :, :, 5:] += 0.1
    coarse[4, :, :, :5] += 0.1
    return coarse, hu, np.ones(shape, bool)


def test_posterior_sums_to_one_and_constant_posteriors_stay() -> None:
    coarse = np.tile(np.array([0.2, 0.1, 0.3, 0.25, 0.15], np.float32)[:, None, None, None], (1, 4, 4, 4))
    fine = to_voxels(coarse, 2, (7, 8, 8))
    assert fine.shape == (5, 7, 8, 8)
    torch.testing.assert_close(fine[:, 3, 3, 3], torch.tensor([0.2, 0.1, 0.3, 0.25, 0.15]))


def test_cells_without_lung_do_not_pull_at_their_neighbours() -> None:
    coarse = np.zeros((5, 4, 4, 4), np.float32)
    coarse[2, :, :, :2] = 1
    fine = to_voxels(coarse, 2, (8, 8, 8))
    torch.testing.assert_close(fine[2, :, :, :4], torch.ones(8, 8, 4))


def test_fusion_moves_a_border_to_the_edge_of_the_ct() -> None:
    coarse, hu, lungs = two_tissues()
    plain = to_voxels(coarse, 4, hu.shape).argmax(0).numpy()
    fused = fuse(coarse, 4, hu, lungs, spacing_mm=1.5).argmax(0).numpy()
    truth = np.where(np.arange(40) >= 19, 4, 0)[None, None]
    assert (fused == truth).mean() > 0.995 > (plain == truth).mean()


def test_far_from_borders_hu_changes_nothing() -> None:
    coarse, hu, lungs = two_tissues()
    hu[8, 12, 5] = 300
    assert int(fuse(coarse, 4, hu, lungs, spacing_mm=1.5)[:, 8, 12, 5].argmax()) == 0


def test_a_vessel_at_a_border_does_not_become_a_class_that_is_not_there() -> None:
    shape = (16, 24, 40)
    hu = np.full(shape, -860, np.float32)
    hu[:, :, 20:] = -550
    hu[:, 12, :] = 30
    coarse = np.full((5, 4, 6, 10), 0.01, np.float32)
    coarse[0, :, :, :5] = coarse[2, :, :, 5:] = 0.96
    fused = fuse(coarse, 4, hu, np.ones(shape, bool), spacing_mm=1.5).argmax(0).numpy()
    assert set(np.unique(fused)) == {0, 2}
    assert (fused[:, 12, :8] == 0).all()
    assert (fused[:, 12, 32:] == 2).all()


def test_an_edge_of_the_ct_inside_one_tissue_is_no_border() -> None:
    _, hu, _ = two_tissues()
    even = torch.full((5, *hu.shape), 0.2)
    torch.testing.assert_close(border_conductance(hu, even, FusionConfig()), torch.ones(hu.shape))
    split = even.clone()
    split[0, :, :, 19:], split[4, :, :, 19:] = 0.0, 0.4
    wall = border_conductance(hu, split, FusionConfig())
    assert float(wall[:, :, 18:20].max()) < 0.05
    assert float(wall[:, :, :15].min()) > 0.95


def test_an_hu_that_fits_no_class_tells_nothing() -> None:
    evidence = HuLikelihood(PRIOR_HU, PRIOR_SD).log(torch.tensor([3000.0]))
    torch.testing.assert_close(evidence, evidence[:1].expand_as(evidence))


def test_neutral_evidence_keeps_the_share_of_its_class() -> None:
    random = torch.Generator().manual_seed(0)
    posterior = torch.rand(5, 50, generator=random)
    posterior /= posterior.sum(0)
    evidence = 3 * torch.randn(5, 50, generator=random)
    evidence[3] = neutral(evidence, posterior, 3)
    after = (posterior.log() + evidence).softmax(0)
    torch.testing.assert_close(after[3], posterior[3])
    alone = torch.eye(5)[3][:, None]
    assert float(neutral(torch.zeros(5, 1), alone, 3)) == 0


def test_the_likelihood_is_a_density_and_follows_the_scan() -> None:
    grid = torch.arange(-2500.0, 2500.0, 1.0)
    tail = 0.1 * 5000 / 1200
    mass = HuLikelihood(PRIOR_HU, PRIOR_SD).log(grid).exp().sum(1)
    torch.testing.assert_close(mass, torch.full((5,), 0.9 + tail), rtol=1e-3, atol=1e-3)
    hu, posterior = torch.full((40, 40, 40), -820.0), torch.zeros(5, 40, 40, 40)
    posterior[0] = 1
    found = HuLikelihood.of(hu, posterior, torch.ones(40, 40, 40, dtype=torch.bool))
    assert float(found.mean[0]) == pytest.approx(-820, abs=2)
    torch.testing.assert_close(found.mean[1:], PRIOR_HU[1:])


def test_median_at_voxels_is_the_median_filter() -> None:
    hu = np.random.default_rng(0).normal(0, 100, (9, 8, 7)).astype(np.float32)
    voxels = np.argwhere(np.ones(hu.shape, bool))
    np.testing.assert_array_equal(median_at(hu, voxels), ndimage.median_filter(hu, 3, mode="nearest").ravel())


def test_diffusion_keeps_the_mean_and_stops_at_edges() -> None:
    field = torch.rand(2, 6, 6, 8)
    out = diffuse(field, torch.ones(6, 6, 8), 5)
    torch.testing.assert_close(out.mean((1, 2, 3)), field.mean((1, 2, 3)))
    wall = torch.ones(6, 6, 8)
    wall[:, :, 4] = 0
    step = torch.zeros(1, 6, 6, 8)
    step[..., 5:] = 1
    torch.testing.assert_close(diffuse(step, wall, 5), step)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_sobel_of_a_ramp_is_its_slope(axis: int) -> None:
    ramp = np.moveaxis(np.tile(np.arange(8.0, dtype=np.float32) * 30, (8, 8, 1)), -1, axis)
    assert sobel_magnitude(ramp)[4, 4, 4] == pytest.approx(30)


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 5])
def test_each_cell_lies_where_it_was_described_and_between_the_posterior_is_linear(stride: int) -> None:
    lungs = np.ones((2 * stride, 2 * stride, 5 * stride), bool)
    where = positions(lungs, stride)
    along = np.unique(where.voxel[:, 2])
    coarse = np.zeros((2, 2, 2, 5), np.float32)
    coarse[0] = np.linspace(0.1, 0.9, 5, dtype=np.float32) ** 2
    coarse[1] = 1 - coarse[0]
    fine = to_voxels(coarse, stride, lungs.shape)
    np.testing.assert_allclose(fine[0, 1, 1, along].numpy(), coarse[0, 0, 0], atol=1e-6)
    wanted = np.interp(np.arange(5 * stride), along, coarse[0, 0, 0])
    np.testing.assert_allclose(fine[0, stride, stride - 1].numpy(), wanted, atol=1e-6)


def test_the_first_of_equals_is_most_probable() -> None:
    posterior = np.random.default_rng(0).integers(0, 4, (5, 6, 7, 8)).astype(np.float32)
    np.testing.assert_array_equal(most_probable(posterior), posterior.argmax(0))


def test_a_step_gives_a_seventh_of_each_difference_through_the_narrower_side() -> None:
    spike, open_ = torch.zeros(1, 5, 5, 5), torch.ones(5, 5, 5)
    spike[0, 2, 2, 2] = 7
    narrow = open_.clone()
    narrow[2, 2, 3] = 0.5
    out = diffuse(spike, narrow, 1)[0]
    assert float(out[2, 2, 2]) == pytest.approx(1.5)
    assert float(out[2, 2, 3]) == pytest.approx(0.5)
    for place in ((1, 2, 2), (3, 2, 2), (2, 1, 2), (2, 3, 2), (2, 2, 1)):
        assert float(out[place]) == pytest.approx(1)
    assert int((out != 0).sum()) == 7
    torch.testing.assert_close(diffuse(spike, narrow, 3), diffuse(diffuse(spike, narrow, 1), narrow, 2))


@pytest.mark.parametrize(("slope", "exponent"), [(0.2, 1.0), (0.1 / 2**0.5, 1.0), (0.05 / 2**0.5, 0.25)])
def test_conductance_is_one_over_e_at_the_edge_of_the_settings(slope: float, exponent: float) -> None:
    """HU rise by `edge_hu` a voxel; where the posterior turns by less than 0.1 a voxel, it is a border in part."""
    x = np.tile(np.arange(12, dtype=np.float32), (8, 8, 1))
    posterior = torch.from_numpy(np.stack([slope * x, -slope * x]))
    found = border_conductance(80 * x, posterior, FusionConfig(edge_hu=80))[4, 4, 6]
    assert float(found) == pytest.approx(np.exp(-exponent), rel=1e-3)


def test_a_tissue_is_learned_from_sure_lung_voxels_against_2000_of_experience() -> None:
    random = np.random.default_rng(3)
    hu = torch.from_numpy(random.normal(-560, 90, (20, 20, 20)).astype(np.float32))
    lungs = torch.from_numpy(random.random(hu.shape) < 0.7)
    posterior = torch.zeros(5, *hu.shape)
    posterior[2] = torch.where(torch.from_numpy(random.random(hu.shape) < 0.5), 0.81, 0.79)
    found = HuLikelihood.of(hu, posterior, lungs)
    sure = hu[lungs & (posterior[2] > 0.8)].double().numpy()
    mean = (sure.sum() + 2000 * -600) / (len(sure) + 2000)
    variance = (((sure - mean) ** 2).sum() + 2000 * 120**2) / (len(sure) + 2000)
    assert float(found.mean[2]) == pytest.approx(mean, abs=0.01)
    assert float(found.sd[2]) == pytest.approx(variance**0.5, abs=0.01)
    torch.testing.assert_close(found.sd[3:], PRIOR_SD[3:])


def test_nearby_is_a_cube_of_lung_voxels() -> None:
    top, lungs = np.zeros((9, 9, 9), np.uint8), np.ones((9, 9, 9), bool)
    top[4, 4, 4] = top[0, 0, 0] = 1
    lungs[0, 0, 0] = False
    near = classes_nearby(top, lungs, 3, 2)
    wanted = np.zeros((9, 9, 9), bool)
    wanted[2:7, 2:7, 2:7] = True
    np.testing.assert_array_equal(near[1].numpy(), wanted)
    assert bool(near[0].all())
    assert not bool(near[2].any())


@pytest.mark.parametrize(("spacing_mm", "reach"), [(1.0, 4), (2.0, 2), (10.0, 1)])
def test_hu_counts_within_some_millimetres_of_a_border(spacing_mm: float, reach: int) -> None:
    coarse, hu, lungs = two_tissues()
    without, with_hu = (
        fuse(coarse, 4, hu, lungs, spacing_mm=spacing_mm, config=FusionConfig(evidence=evidence)) for evidence in (0, 1)
    )
    border = int((without[:, 8, 12].argmax(0) == 4).nonzero()[0])
    moved = (without != with_hu).any(0).any(0).any(0).nonzero().flatten().tolist()
    assert moved == list(range(border - reach, border + reach))


def test_what_is_off_the_lungs_does_not_flow_in() -> None:
    coarse, hu, lungs = two_tissues()
    lungs[:, :, 21:] = False
    other = coarse.copy()
    other[:, :, :, 7:] = 0.2
    one, two = (fuse(c, 4, hu, lungs, spacing_mm=1.5)[:, :, :, :20] for c in (coarse, other))
    torch.testing.assert_close(one, two)


def test_where_fibrosis_meets_one_tissue_hu_move_nothing() -> None:
    """Its texture cannot be told from one voxel, so its share stays, and so does the only other's."""
    coarse, hu, lungs = two_tissues()
    coarse[3], coarse[4] = coarse[4], 0
    without, with_hu = (
        fuse(coarse, 4, hu, lungs, spacing_mm=1.5, config=FusionConfig(evidence=evidence)) for evidence in (0, 1)
    )
    assert set(with_hu.argmax(0).unique().tolist()) == {0, 3}
    torch.testing.assert_close(with_hu, without, rtol=0, atol=1e-4)
