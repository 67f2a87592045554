import torch

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
