import pytest
import torch

from diffseglung.errors import InputError
from diffseglung.mixture import seeded
from diffseglung.mixture.gaussian import fit
from diffseglung.mixture.seeded import SeededMixture
from diffseglung.runtime import generator


def rows_and_labels() -> tuple[torch.Tensor, torch.Tensor]:
    random = generator(2)
    label = torch.arange(3000) % 3
    side = torch.where(torch.rand(3000, generator=random) < 0.5, -1.0, 1.0)
    rows = torch.stack([label * 8.0, side * 4.0], 1) + torch.randn(3000, 2, generator=random)
    return rows, label


def test_classes_of_two_islands_each_are_recovered_by_owned_components() -> None:
    rows, label = rows_and_labels()
    model = SeededMixture.fit(rows, label, 3, components=2)
    posterior = model.posterior(rows)
    torch.testing.assert_close(posterior.sum(1), torch.ones(len(rows)))
    assert (posterior.argmax(1) == label).float().mean() > 0.99
    assert model.owner.tolist() == [0, 0, 1, 1, 2, 2]


def test_negative_labels_are_left_out() -> None:
    rows, label = rows_and_labels()
    wrong = torch.cat([rows, torch.full((500, 2), 100.0)])
    model = SeededMixture.fit(wrong, torch.cat([label, torch.full((500,), -1)]), 3, components=2)
    assert float(model.mixture.means.max()) < 30


def test_a_class_without_rows_gets_no_posterior() -> None:
    rows, label = rows_and_labels()
    posterior = SeededMixture.fit(rows, label, 4, components=1).posterior(rows)
    assert float(posterior[:, 3].max()) == 0.0


def shares_of(model: SeededMixture) -> torch.Tensor:
    """(classes,) weight of each class's components together."""
    return torch.zeros(model.classes).index_add(0, model.owner, model.mixture.weights.float())


def test_classes_weigh_what_the_prior_says_and_the_same_without_one() -> None:
    rows, label = rows_and_labels()
    label = torch.where((label == 2) & (torch.arange(len(label)) % 4 > 0), -1, label)  # one is rare
    prior = torch.tensor([0.7, 0.2, 0.1])
    torch.testing.assert_close(shares_of(SeededMixture.fit(rows, label, 3, components=2, prior=prior)), prior)
    equal = torch.full((3,), 1 / 3)
    torch.testing.assert_close(shares_of(SeededMixture.fit(rows, label, 3, components=2)), equal)


def test_weights_sum_to_one_where_a_class_of_the_prior_has_no_rows() -> None:
    rows, label = rows_and_labels()
    model = SeededMixture.fit(rows, label, 4, components=1, prior=torch.full((4,), 0.25))
    torch.testing.assert_close(shares_of(model), torch.tensor([1 / 3, 1 / 3, 1 / 3, 0]))


def test_a_class_needs_ten_rows_for_each_feature() -> None:
    rows, label = rows_and_labels()
    for kept, owners in ((19, [0, 1]), (20, [0, 1, 2])):
        third = (label == 2).cumsum(0)
        few = torch.where((label == 2) & (third > kept), -1, label)
        assert SeededMixture.fit(rows, few, 3, components=1).owner.tolist() == owners


def test_no_sure_row_at_all_is_refused_with_a_remedy() -> None:
    rows, label = rows_and_labels()
    with pytest.raises(InputError, match="no tissue") as caught:
        SeededMixture.fit(rows, torch.full_like(label, -1), 3)
    assert "more" in caught.value.remedy


@pytest.mark.parametrize("most", [100, 12000])
def test_a_single_gaussian_sits_at_the_mean_of_evenly_taken_rows(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeded, "MOST_ROWS", most)
    rows, label = rows_and_labels()
    model = SeededMixture.fit(rows, label, 3, components=1)
    for c in range(3):
        mine = rows[label == c]
        taken = mine[torch.linspace(0, len(mine) - 1, min(len(mine), most)).long()]
        torch.testing.assert_close(model.mixture.means[c].float(), taken.mean(0), rtol=1e-4, atol=1e-3)


def test_three_components_a_class_and_one_seed_by_default() -> None:
    rows, label = rows_and_labels()
    model, again = (SeededMixture.fit(rows, label, 3, **given) for given in ({}, {"seed": 0, "components": 3}))
    assert model.owner.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert torch.equal(model.mixture.means, again.mixture.means)


def test_each_class_is_fitted_on_its_own_rows_as_if_alone() -> None:
    rows, label = rows_and_labels()
    model = SeededMixture.fit(rows, label, 3, components=3, seed=5)
    for c in range(3):
        alone = fit(rows[label == c], 3, seed=5, starts=2, ridge=1e-2)
        mine = model.owner == c
        assert torch.equal(model.mixture.means[mine], alone.means)
        assert torch.equal(model.mixture.covariances[mine], alone.covariances)
