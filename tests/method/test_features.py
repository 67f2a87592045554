"""Features of a scan are read at the place in it that they describe; the rest is tested with the pipeline."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diffseglung.case.positions import positions
from diffseglung.method.features import at_positions


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
