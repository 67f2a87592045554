import itertools

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture

from diffseglung.errors import InputError
from diffseglung.mixture.gaussian import Mixture, em, fit, fit_by_bic, kmeans_plus_plus, maximise
from diffseglung.runtime import generator


def three_blobs(n: int = 3000) -> tuple[torch.Tensor, torch.Tensor]:
    random = generator(5)
    centres = torch.tensor([[0.0, 0.0], [6.0, 1.0], [-4.0, 7.0]])
    label = torch.arange(n) % 3
    return centres[label] + torch.randn(n, 2, generator=random) * torch.tensor([1.0, 0.5]), label


def test_responsibilities_sum_to_one() -> None:
    rows, _ = three_blobs()
    total = fit(rows, 3).responsibilities(rows).sum(1)
    torch.testing.assert_close(total, torch.ones_like(total))


def test_density_of_one_component_is_the_normal_density() -> None:
    mixture = Mixture(torch.ones(1), torch.tensor([[1.0, -2.0]]), torch.diag(torch.tensor([4.0, 0.25]))[None])
    rows = torch.tensor([[0.0, 0.0], [1.0, -2.0]])
    expected = torch.distributions.Normal(mixture.means[0], torch.tensor([2.0, 0.5])).log_prob(rows).sum(1)
    torch.testing.assert_close(mixture.log_joint(rows)[:, 0], expected)


def test_well_separated_blobs_are_found_whatever_the_order_of_rows() -> None:
    rows, label = three_blobs()
    for seed in (0, 1):
        order = torch.randperm(len(rows), generator=generator(seed))
        found = fit(rows[order], 3, seed=seed).responsibilities(rows).argmax(1)
        table = torch.zeros(3, 3).index_put((label, found), torch.ones(len(rows)), accumulate=True)
        assert table.amax(1).sum() / len(rows) > 0.99


def test_em_from_the_same_start_reaches_scikit_learns_likelihood() -> None:
    rows, _ = three_blobs()
    nearest = torch.cdist(rows, kmeans_plus_plus(rows, 3, generator(3))).argmin(1)
    start = maximise(rows, torch.nn.functional.one_hot(nearest, 3).float(), 1e-6)
    ours = em(rows, start, tolerance=1e-7, ridge=1e-6)
    theirs = GaussianMixture(
        3,
        weights_init=start.weights.numpy(),
        means_init=start.means.numpy(),
        precisions_init=np.linalg.inv(start.covariances.numpy()),
        tol=1e-7,
        max_iter=100,
        reg_covar=1e-6,
    ).fit(rows.double().numpy())
    assert ours.log_likelihood(rows) == pytest.approx(theirs.score(rows.double().numpy()), abs=1e-4)
    assert ours.bic(rows) == pytest.approx(theirs.bic(rows.double().numpy()), rel=1e-3)


def test_each_em_iteration_raises_the_likelihood() -> None:
    rows, _ = three_blobs()
    nearest = torch.cdist(rows, kmeans_plus_plus(rows, 4, generator(9))).argmin(1)
    mixture = maximise(rows, torch.nn.functional.one_hot(nearest, 4).float(), 1e-6)
    values = []
    for _ in range(6):
        values.append(mixture.log_likelihood(rows))
        mixture = em(rows, mixture, iterations=1, ridge=1e-6)
    assert all(b >= a - 1e-5 for a, b in itertools.pairwise(values))


def test_bic_counts_the_blobs() -> None:
    rows, _ = three_blobs()
    assert len(fit_by_bic(rows, 2, 5).weights) == 3


def test_same_seed_same_mixture() -> None:
    rows, _ = three_blobs()
    assert torch.equal(fit(rows, 3, seed=4).means, fit(rows, 3, seed=4).means)


def test_too_few_rows_is_an_answer() -> None:
    with pytest.raises(InputError, match="cannot carry 5 components"):
        fit(torch.zeros(3, 2), 5)
