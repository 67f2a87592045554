import numpy as np
import pytest
import torch
from scipy import ndimage

from diffseglung.fusion import (
    PRIOR_HU,
    PRIOR_SD,
    FusionConfig,
    HuLikelihood,
    border_conductance,
    diffuse,
    fuse,
    median_at,
    neutral,
    sobel_magnitude,
    to_voxels,
)


def two_tissues() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Healthy | consolidation with the true border at x = 21, between cell borders of the coarse grid."""
    shape = (16, 24, 40)
    hu = np.full(shape, -860, np.float32)
    hu[:, :, 21:] = 20
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
    truth = np.where(np.arange(40) >= 21, 4, 0)[None, None]
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
    split[0, :, :, 21:], split[4, :, :, 21:] = 0.0, 0.4
    wall = border_conductance(hu, split, FusionConfig())
    assert float(wall[:, :, 20:22].max()) < 0.05
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
