import itertools
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from diffseglung.method import mixture
from diffseglung.method.mixture import Mixture, em, fit, fit_by_bic, kmeans_plus_plus, maximise
from diffseglung.platform.errors import InputError
from diffseglung.platform.runtime import generator


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
    for row, density in zip(rows, expected, strict=True):
        assert mixture.log_likelihood(row[None]) == pytest.approx(float(density), rel=1e-6)


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


def crowd(n: int = 20_000, f: int = 30, k: int = 5) -> tuple[torch.Tensor, Mixture]:
    """Overlapping, correlated Gaussians around +100, and a start beside them."""
    random = generator(8)
    centres, mixing = torch.randn(k, f, generator=random), 0.4 * torch.randn(f, f, generator=random)
    rows = centres[torch.arange(n) % k] + torch.randn(n, f, generator=random) @ mixing + 100
    rows += 0.5 * torch.randn(n, f, generator=random)
    start = Mixture(torch.full((k,), 1 / k), centres + 100.3, 2 * torch.eye(f).expand(k, f, f))
    return rows, start


def test_as_many_iterations_from_the_same_start_give_scikit_learns_likelihood() -> None:
    """To 1e-4 a row, at 30 features; weights, means and covariances too."""
    rows, start = crowd()
    ours = em(rows, start, iterations=8, tolerance=-np.inf, ridge=1e-6)
    theirs = GaussianMixture(
        5,
        weights_init=np.full(5, 0.2),
        means_init=start.means.double().numpy(),
        precisions_init=np.linalg.inv(start.covariances.double().numpy()),
        tol=0,
        max_iter=8,
        reg_covar=1e-6,
    )
    with pytest.warns(ConvergenceWarning):
        theirs.fit(rows.double().numpy())
    assert ours.log_likelihood(rows) == pytest.approx(theirs.score(rows.double().numpy()), abs=1e-4)
    assert ours.weights.numpy() == pytest.approx(theirs.weights_, abs=1e-4)
    assert ours.means.numpy() == pytest.approx(theirs.means_, abs=1e-3)
    assert ours.covariances.numpy() == pytest.approx(theirs.covariances_, abs=1e-3)
    assert (ours.labels(rows).numpy() == theirs.predict(rows.double().numpy())).mean() > 0.9999


def test_narrow_components_far_apart_keep_their_covariance() -> None:
    """Squares of distances between components, 1e6 times their variance, do not cancel it."""
    random = generator(4)
    side = (torch.arange(40_000) % 2).float()[:, None]
    rows = torch.randn(40_000, 3, generator=random) * torch.tensor([1.0, 0.1, 3.0]) + 1000 * (2 * side - 1)
    found = maximise(rows, torch.cat([1 - side, side], 1), 0.0)
    moved = em(rows, found, iterations=3, tolerance=-np.inf, ridge=0.0)
    for result in (found, moved):
        for half, covariance in enumerate(result.covariances.numpy()):
            mine = rows[side[:, 0] == half].double().numpy()
            assert covariance == pytest.approx(np.cov(mine.T, bias=True), rel=2e-3, abs=2e-4)


class ReadOnDemand(Sequence[torch.Tensor]):
    """Parts that exist while somebody holds them; `most` is how many did at once."""

    def __init__(self, rows: torch.Tensor, size: int) -> None:
        self.rows, self.size, self.alive, self.most = rows, size, weakref.WeakSet[torch.Tensor](), 0

    def __len__(self) -> int:
        return -(-len(self.rows) // self.size)

    def __getitem__(self, index: int) -> torch.Tensor:  # type: ignore[override]
        if index >= len(self):
            raise IndexError
        part = self.rows[index * self.size : (index + 1) * self.size].clone()
        self.alive.add(part)
        self.most = max(self.most, len(self.alive))
        return part


def test_rows_in_parts_are_read_a_few_at_a_time_and_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, start = crowd(8000, 6, 3)
    whole = em(rows, start, iterations=4, tolerance=-np.inf)
    parts = ReadOnDemand(rows, 200)
    for result in (em(list(rows.split(999)), start, iterations=4, tolerance=-np.inf),
                   em(parts, start, iterations=4, tolerance=-np.inf)):  # fmt: skip
        torch.testing.assert_close(result.covariances, whole.covariances, rtol=1e-4, atol=1e-5)
        assert result.log_likelihood(parts) == pytest.approx(whole.log_likelihood(rows), abs=1e-5)
    assert parts.most <= 3 * torch.get_num_threads() + 3 < len(parts)
    monkeypatch.setattr(mixture, "START_ROWS", 500)
    assert fit(parts, 3).log_likelihood(rows) == pytest.approx(fit(rows, 3).log_likelihood(rows), abs=1e-5)


def test_a_memory_map_is_fitted_as_its_values(tmp_path: Path) -> None:
    rows, start = crowd(5000, 4, 2)
    np.save(tmp_path / "rows.npy", rows.half().numpy())
    mapped = torch.from_numpy(np.load(tmp_path / "rows.npy", mmap_mode="c"))
    found, wanted = (em(values, start, iterations=3, ridge=1e-3) for values in (mapped, rows.half().float()))
    torch.testing.assert_close(found.means, wanted.means)


def test_cores_and_blocks_leave_no_trace(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    """As many threads as one likes: the same bits. Other blocks: the same but for rounding."""
    rows, start = crowd(9000, 6, 3)
    monkeypatch.setattr(mixture, "BLOCK", 1000)
    alone = em(rows, start, iterations=3)
    torch.set_num_threads(3)
    assert torch.equal(em(rows, start, iterations=3).covariances, alone.covariances)
    assert torch.equal(alone.labels(rows), alone.responsibilities(rows).argmax(1))
    monkeypatch.undo()
    torch.testing.assert_close(em(rows, start, iterations=3).covariances, alone.covariances, rtol=1e-4, atol=1e-5)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread, and as many as before when the test is over."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_sample_of_many_rows_starts_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starts on a part of the rows end where starts on all of them do."""
    rows, _ = three_blobs()
    whole = fit(rows, 3).log_likelihood(rows)
    monkeypatch.setattr(mixture, "START_ROWS", 400)
    assert fit(rows, 3).log_likelihood(rows) == pytest.approx(whole, abs=1e-3)


def test_two_rows_carry_two_components_and_one_row_carries_none() -> None:
    assert len(fit(torch.tensor([[0.0], [1.0]]), 2).weights) == 2
    for k in (1, 2):
        with pytest.raises(InputError, match="1 feature vectors"):
            fit(torch.zeros(1, 1), k)


def test_half_precision_is_fitted_as_single() -> None:
    rows = 50 + 10 * torch.randn(4000, 6, generator=generator(3))  # their sums are beyond half precision
    half, single = (fit(values, 3).log_likelihood(rows) for values in (rows.half(), rows.half().float()))
    assert half == pytest.approx(single)


@pytest.mark.parametrize("outlier", [1e4, 1e6, 1e8, -1e12])
def test_a_row_far_from_the_others_costs_them_nothing(outlier: float) -> None:
    rows = torch.randn(500, 8, generator=generator(4))
    far = rows.clone()
    far[7, 2] = outlier
    others = torch.cat([rows[:7], rows[8:]])
    assert fit(far, 3).log_likelihood(others) > fit(others, 2).log_likelihood(others) - 0.1


def test_heavy_tails_and_many_columns_are_fitted() -> None:
    tails = np.random.default_rng(0).standard_t(2, (500, 384))
    assert np.isfinite(fit(torch.from_numpy(tails).float(), 2).log_likelihood(torch.from_numpy(tails)))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_rows_that_cannot_be_computed_with_are_told(value: float) -> None:
    rows = torch.randn(300, 4, generator=generator(5))
    rows[11, 1] = value
    with pytest.raises(InputError, match="not finite, or that are too far apart"):
        fit(rows, 2)
    with pytest.raises(InputError, match="not finite"):
        em(rows, fit(rows[:10], 2))


def test_em_stops_at_the_first_iteration_that_gains_less_than_the_tolerance() -> None:
    rows, start = crowd(3000, 4, 3)
    path = [start]
    for _ in range(12):
        path.append(em(rows, path[-1], iterations=1))
    likelihood = [mixture.log_likelihood(rows) for mixture in path]
    last = next(n for n in range(1, 13) if likelihood[n] - likelihood[n - 1] < 5e-3)
    assert last > 2
    torch.testing.assert_close(em(rows, start, tolerance=5e-3).means, path[last].means)
    torch.testing.assert_close(em(rows, start, iterations=2).means, path[2].means)


@pytest.mark.parametrize("most", [1, 2, 7, 99, 100, 1000])
def test_rows_taken_evenly_hold_both_ends_whatever_the_parts(most: int) -> None:
    rows = torch.arange(100.0)[:, None]
    taken = mixture._evenly(rows, most)
    assert len(taken) == min(most, 100)
    assert float(taken[0]) == 0
    if most > 1:
        assert float(taken[-1]) == 99
        assert float(taken.diff(dim=0).max() - taken.diff(dim=0).min()) <= 1
    for size in (1, 10, 33):
        assert torch.equal(mixture._evenly(rows.split(size), most), taken)


def test_one_m_step_is_numpys_weighted_mean_and_covariance() -> None:
    rows, _ = crowd(500, 4, 3)
    soft = torch.rand(500, 3, generator=generator(1)).softmax(1)
    found = maximise(rows, soft, 0.25)
    for k, share in enumerate(soft.double().numpy().T):
        assert float(found.weights[k]) == pytest.approx(share.sum() / 500)
        assert found.means[k].numpy() == pytest.approx(np.average(rows.numpy(), axis=0, weights=share), rel=1e-5)
        wanted = np.cov(rows.double().numpy().T, aweights=share, bias=True) + 0.25 * np.eye(4)
        assert found.covariances[k].numpy() == pytest.approx(wanted, rel=1e-4, abs=1e-4)


def test_a_component_without_rows_stays_finite() -> None:
    rows, _ = crowd(300, 4, 3)
    found = maximise(rows, torch.tensor([[1.0, 0.0]]).expand(300, 2), 1e-4)
    assert all(torch.isfinite(part).all() for part in (found.weights, found.means, found.covariances))
    assert float(found.weights[1]) < 1e-9


def test_bic_charges_log_n_for_each_free_number() -> None:
    """3 components in 4 dimensions: 2 weights, 12 means, 3 x 10 covariances."""
    rows, start = crowd(300, 4, 3)
    assert start.bic(rows) == pytest.approx(-600 * start.log_likelihood(rows) + 44 * np.log(300), rel=1e-12)


def test_more_starts_never_end_lower() -> None:
    rows, _ = crowd(600, 3, 5)
    found = [fit(rows, 5, starts=n).log_likelihood(rows) for n in (1, 2, 3, 4)]
    assert found == sorted(found)
    assert found[-1] > found[0]


def test_start_centres_are_drawn_by_squared_distance() -> None:
    """From 0, the next of 0, 1 and 3 is 3 nine times of ten, and never 0; equal rows are no trouble."""
    rows, random = torch.tensor([[0.0], [1.0], [3.0]]), generator(2)
    pairs = [kmeans_plus_plus(rows, 2, random)[:, 0].tolist() for _ in range(1500)]
    seconds = [second for first, second in pairs if first == 0]
    assert len(seconds) / len(pairs) == pytest.approx(1 / 3, abs=0.04)
    assert seconds.count(3) / len(seconds) == pytest.approx(0.9, abs=0.04)
    assert all(first != second for first, second in pairs)
    assert kmeans_plus_plus(torch.ones(5, 2), 3, random).tolist() == [[1, 1]] * 3


@pytest.mark.gpu
def test_same_on_a_gpu() -> None:
    rows, start = crowd()
    on_gpu = em(rows.cuda(), start, iterations=5)
    torch.testing.assert_close(on_gpu.means.cpu(), em(rows, start, iterations=5).means, rtol=1e-4, atol=1e-3)
    assert fit(rows.cuda(), 5).responsibilities(rows.cuda()).is_cuda
