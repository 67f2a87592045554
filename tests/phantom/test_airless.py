"""Consolidation: nearly solid, vessels vanish, airways stay open."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from diffseglung.labels import CONSOLIDATION, GGO
from diffseglung.phantom import airless
from diffseglung.phantom.record import Draw
from diffseglung.phantom.region import Region

Make = Callable[..., tuple[Region, Draw]]


@pytest.mark.parametrize("paint", [airless.lobar, airless.patchy, airless.organising])
def test_consolidation_is_nearly_solid(region: Make, paint: Callable[..., None]) -> None:
    found, draw = region("peripheral")
    paint(found, draw)
    labelled = found.parts.truth[found.box] == CONSOLIDATION.id
    hu = found.parenchyma[labelled]
    assert labelled.sum() > 50
    assert -200 < np.median(hu) <= airless_limit()
    assert hu.max() <= airless_limit()


def airless_limit() -> float:
    """Tissue cannot be denser than the fluid that fills it."""
    from diffseglung.phantom.region import FLUID_HU

    return FLUID_HU


def test_vessels_vanish_in_consolidation(region: Make) -> None:
    """The contrast of vessels falls from about 900 HU to less than 150."""
    found, draw = region()
    airless.lobar(found, draw)
    labelled = found.parts.truth[found.box] == CONSOLIDATION.id
    hu = found.parts.compose()[found.box]
    vessel = labelled & (found.vessels > 0.9)
    if vessel.any():
        assert abs(hu[vessel].mean() - np.median(hu[labelled & (found.vessels < 0.1)])) < 200


def test_airways_stay_open_in_consolidation(region: Make) -> None:
    opened = 0
    for seed in range(6):
        found, draw = region(seed=seed)
        before = found.parts.lumen.sum()
        airless.lobar(found, draw)
        opened += found.parts.lumen.sum() > before
    assert opened > 0


def test_patches_touch_the_chest_wall(region: Make) -> None:
    found, draw = region("peripheral")
    airless.patchy(found, draw)
    labelled = found.parts.truth[found.box] == CONSOLIDATION.id
    assert found.depth[labelled].min() < 2.5


def test_an_organising_focus_has_both_tissues(region: Make) -> None:
    found, draw = region(seed=1)
    airless.organising(found, draw)
    present = set(np.unique(found.parts.truth[found.box]).tolist())
    assert {GGO.id, CONSOLIDATION.id} <= present
