"""Laws of places and extents."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from diffseglung.labels import GGO
from diffseglung.phantom.record import ChestParts, Draw
from diffseglung.phantom.region import Region, blurred, place

Make = Callable[..., tuple[Region, Draw]]


def test_a_region_stays_in_its_lung(region: Make) -> None:
    found, _ = region()
    assert (found.parts.lungs[found.box][found.lung] == 1).all()
    assert found.weight(3.0)[~found.lung].max() == 0


def test_peripheral_regions_lie_under_the_pleura(region: Make) -> None:
    found, draw = region("peripheral")
    centre = tuple(draw.record["centre"])
    assert 0 < found.parts.depth[centre] < 0.45 * found.radius_mm + 3


def test_labels_stay_inside_the_lungs(region: Make) -> None:
    found, _ = region("peripheral")
    found.label(np.ones(found.shape, bool), GGO)
    assert (found.parts.lungs[found.parts.truth == GGO.id] > 0).all()


def test_lobules_are_taken_whole(region: Make) -> None:
    found, draw = region()
    inside, wall = found.lobules(draw.rng, 10.0, found.signed, 10.0)
    border = inside[:, :, 1:] != inside[:, :, :-1]
    within = found.lung[:, :, 1:] & found.lung[:, :, :-1] & (found.signed[:, :, 1:] > -5)
    assert inside.any()
    assert np.median(wall[:, :, 1:][border & within]) < 1.5


def test_no_lung_means_no_region(parts: ChestParts) -> None:
    parts.lungs[:] = 0
    assert place(parts, Draw(0), "any", (20, 24)) is None


def test_blurring_keeps_the_amount() -> None:
    mask = np.zeros((31, 31, 31), bool)
    mask[12:18, 12:18, 12:18] = True
    assert abs(blurred(mask, (1.0, 1.0, 1.0), 2.0).sum() - mask.sum()) < 1
