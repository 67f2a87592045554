import torch

from diffseglung.mixture.projection import Projection
from diffseglung.runtime import generator


def correlated(n: int = 4000) -> torch.Tensor:
    base = torch.randn(n, 2, generator=generator(1))
    return base @ torch.tensor([[3.0, 1.0, 0.5], [0.0, 2.0, -1.0]]) + torch.tensor([10.0, -5.0, 2.0])


def test_without_dimensions_rows_are_standardised() -> None:
    z = Projection.fit(correlated())(correlated())
    torch.testing.assert_close(z.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.std(0), torch.ones(3), atol=1e-4, rtol=0)


def test_whitened_components_are_uncorrelated_with_unit_variance() -> None:
    z = Projection.fit(correlated(), 2, whiten=True)(correlated())
    torch.testing.assert_close(torch.cov(z.T), torch.eye(2), atol=5e-3, rtol=0)


def test_shifting_and_scaling_a_column_changes_nothing() -> None:
    rows = correlated()
    other = rows * torch.tensor([2.0, 0.1, 5.0]) + 7
    torch.testing.assert_close(
        Projection.fit(rows, 2)(rows).abs(), Projection.fit(other, 2)(other).abs(), atol=1e-3, rtol=1e-3
    )
