"""Features of a scan are read at the place in it that they describe; the rest is tested with the pipeline."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diffseglung.case.positions import positions
from diffseglung.method.features import Projection, at_positions
from diffseglung.platform.runtime import generator


@pytest.mark.parametrize(("stride", "described_at"), [(4, None), (2, None), (2, 1.0), (3, 1.0), (1, None)])
@pytest.mark.parametrize("wanted", [2, 3])
def test_features_are_read_where_they_describe_the_scan(stride: int, described_at: float | None, wanted: int) -> None:
    """A feature that says where it is is right at every position; what no tile covered takes the nearest."""
    lungs = np.zeros((24, 24, 24), bool)
    lungs[6:18, 6:18, 6:18] = True
    where = positions(lungs, wanted)
    offset = (stride - 1) / 2 if described_at is None else described_at
    cells = np.stack(np.meshgrid(*[np.arange(24 // stride)] * 3, indexing="ij")) * stride + offset
    features = torch.from_numpy(cells.astype(np.float32))
    rows = at_positions(features, stride, where, described_at=described_at)
    assert np.allclose(rows.numpy(), where.voxel, atol=1e-4)
    features[:, -1] = torch.nan
    assert torch.isfinite(at_positions(features, stride, where, described_at=described_at)).all()


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


def test_the_leading_axes_come_first_and_keep_their_variance_unless_whitened() -> None:
    rows = correlated()
    values = torch.linalg.eigvalsh(torch.corrcoef(rows.T)).flip(0)
    for dimensions in (1, 2):
        z = Projection.fit(rows, dimensions)(rows)
        assert z.shape == (len(rows), dimensions)
        torch.testing.assert_close(z.var(0), values[:dimensions], atol=5e-3, rtol=5e-3)


def test_each_axis_points_where_its_largest_entry_is_positive() -> None:
    for rows in (correlated(), -correlated(), correlated() * torch.tensor([1.0, -1.0, 1.0])):
        axes = Projection.fit(rows, 2).axes
        assert torch.equal(axes.abs().amax(0), axes.amax(0))
        torch.testing.assert_close(axes.norm(dim=0), torch.ones(2))


def test_all_dimensions_or_more_are_left_unrotated() -> None:
    for dimensions in (None, 3, 4):
        assert torch.equal(Projection.fit(correlated(), dimensions, whiten=True).axes, torch.eye(3))


def test_a_column_that_never_varies_stays_finite_and_small() -> None:
    rows = correlated()
    rows[:, 1] = 5
    z = Projection.fit(rows)(rows)
    assert torch.equal(z[:, 1], torch.zeros(len(rows)))
    nearly = rows.clone()
    nearly[:, 1] += 1e-3 * torch.arange(len(rows)) / len(rows)
    torch.testing.assert_close(Projection.fit(nearly)(nearly).std(0), torch.ones(3), atol=1e-2, rtol=0)
    assert torch.isfinite(Projection.fit(rows, 2, whiten=True)(rows)).all()


def test_double_precision_stays_double() -> None:
    rows = correlated().double()
    for dimensions in (None, 2):
        assert Projection.fit(rows, dimensions)(rows).dtype == torch.float64


def test_whitening_lifts_axes_of_little_variance_too() -> None:
    mixed = torch.randn(4000, 4, generator=generator(3)) @ (torch.eye(4) + 0.8)
    assert float(torch.linalg.eigvalsh(torch.corrcoef(mixed.T))[1]) < 0.5
    z = Projection.fit(mixed, 3, whiten=True)(mixed)
    torch.testing.assert_close(torch.cov(z.T), torch.eye(3), atol=5e-3, rtol=0)
