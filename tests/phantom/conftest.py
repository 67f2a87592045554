"""A block of plain lung, and small phantoms made once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from diffseglung.phantom.procedural import make_phantom
from diffseglung.phantom.record import ChestParts, Draw, Phantom
from diffseglung.phantom.region import Region, place
from diffseglung.platform.config import PhantomConfig


@pytest.fixture
def parts() -> ChestParts:
    """A right lung of 72 mm at -860 HU with the pleura 4 mm inside the box, and one vessel along x."""
    shape = (60, 60, 60)
    index = np.indices(shape)
    depth = (np.minimum(index, 59 - index).min(0) * 1.2 - 4).astype(np.float32)
    lungs = (depth > 0).astype(np.uint8)
    vessels = np.zeros(shape, np.float32)
    vessels[30, 30, 5:55] = 1
    return ChestParts(
        np.full(shape, -860, np.float32),
        vessels,
        np.zeros(shape, np.float32),
        lungs,
        depth,
        lungs.copy(),
        (1.2, 1.2, 1.2),
    )


@pytest.fixture
def region(parts: ChestParts) -> Callable[..., tuple[Region, Draw]]:
    """A function (site, split, seed) -> a lesion's region in the block, and the stream that drew it."""

    def make(site: str = "any", split: str = "train", seed: int = 0) -> tuple[Region, Draw]:
        draw = Draw(seed, split)
        found = place(parts, draw, site, (20, 24))
        assert found is not None
        return found, draw

    return make


@pytest.fixture(scope="session")
def small() -> Phantom:
    """A small healthy phantom."""
    return make_phantom(PhantomConfig(seed=11, size="small", healthy=True))
