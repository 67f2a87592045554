"""The teacher's rows: the peer does the same job."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from diffseglung.method.radiomics.descriptor import DESCRIPTOR_NAMES, describe_batch
from studies.speed.clock import Row
from studies.speed.radiomics import PEER, describe_by_peer, lung_patches, rows

pytest.importorskip("skimage")
GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture(scope="module")
def found() -> list[Row]:
    return rows(quick=True)


def test_every_row_is_timed_beside_a_floor(found: list[Row]) -> None:
    assert {row.part for row in found} == {"radiomics"}
    assert all(row.cost.seconds > 0 and row.floor_s and row.floor for row in found)
    assert found[0].peer == PEER
    assert found[0].peer_cost is not None
    assert found[0].peer_cost.seconds > 0
    assert all(row.met is None for row in found)  # small sizes keep no promise


def test_the_peer_gives_the_same_descriptors() -> None:
    """To the tolerance that `describe_batch` keeps to its own reference, of made-up patches and a real one.

    Local binary patterns of flat ground apart: there scikit-image lets rounding decide, in a pixel or two.
    """
    hu, lung = (values.numpy() for values in lung_patches(2))
    with np.load(GOLDEN / "lung_patch.npz") as file:
        hu, lung = np.stack([*hu, file["hu"].astype(np.float32)]), np.stack([*lung, file["lung"] > 0])
    wanted = np.stack([describe_by_peer(h, m) for h, m in zip(hu, lung, strict=True)])
    found = describe_batch(torch.from_numpy(hu), torch.from_numpy(lung)).numpy()
    patterns = np.array([name.startswith("lbp") for name in DESCRIPTOR_NAMES])
    assert found[:, ~patterns] == pytest.approx(wanted[:, ~patterns], rel=1e-4, abs=1e-5)
    assert found[:, patterns] == pytest.approx(wanted[:, patterns], abs=5e-3)
