"""The picture of the clusters: drawn for any grid and any number of clusters."""

from __future__ import annotations

import io

import matplotlib.image
import numpy as np
import pytest

from diffseglung.method.radiomics.clusters import Cluster
from diffseglung.method.radiomics.descriptor import DESCRIPTOR_NAMES
from diffseglung.output.cluster_picture import colours_for, draw
from diffseglung.volume import Volume


@pytest.mark.parametrize("count", [2, 12])
def test_a_full_picture_on_a_tilted_grid(oblique_affine: np.ndarray, count: int) -> None:
    """1920 x 1080, with every cluster's colour in it; a cluster without voxels is drawn as nothing."""
    rng = np.random.default_rng(0)
    ids = np.zeros((20, 24, 28), np.uint8)
    ids[4:16, 4:20, 4:24] = rng.integers(1, count, (12, 16, 20))
    ct = Volume(rng.normal(-800, 50, ids.shape).astype(np.float32), oblique_affine)
    table = [
        Cluster(
            i, 10.0, 1 / count, float("nan") if i == count else -900.0 + i, 5.0, 9, dict.fromkeys(DESCRIPTOR_NAMES, i)
        )
        for i in range(1, count + 1)
    ]
    picture = matplotlib.image.imread(io.BytesIO(draw(ct, ct.with_array(ids), table, "toy")))
    assert picture.shape[:2] == (1080, 1920)
    found = {tuple(pixel) for pixel in (picture[:, 1440:, :3] * 255).round().astype(int).reshape(-1, 3).tolist()}
    assert {tuple(int(c[i : i + 2], 16) for i in (1, 3, 5)) for c in colours_for(count)} <= found


def test_colours_differ() -> None:
    assert len(set(colours_for(20))) == 20
