"""Ground glass: denser, but short of solid; vessels stay."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from diffseglung.labels import GGO
from diffseglung.phantom import airspace
from diffseglung.phantom.record import Draw
from diffseglung.phantom.region import Region

Make = Callable[..., tuple[Region, Draw]]


@pytest.mark.parametrize(
    "paint", [airspace.geographic, airspace.nodular, airspace.crazy_paving, airspace.faint_gradient]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_ground_glass_is_hazy_and_keeps_vessels(region: Make, paint: Callable[..., None], seed: int) -> None:
    found, draw = region(seed=seed)
    vessels = found.vessels.copy()
    paint(found, draw)
    labelled = found.parts.truth[found.box] == GGO.id
    hu = found.parenchyma[labelled]
    assert labelled.sum() > 50
    assert -800 < np.median(hu) < -300
    assert (found.parenchyma >= -861).all()
    assert (found.vessels >= vessels).all()


def test_ground_glass_fades_out_at_the_drawn_border(region: Make) -> None:
    """Voxels outside the label are less than half as dense as the inside is on average."""
    found, draw = region()
    airspace.faint_gradient(found, draw)
    labelled = found.parts.truth[found.box] == GGO.id
    inside = found.parenchyma[labelled].mean() + 860
    outside = found.parenchyma[found.lung & ~labelled].mean() + 860
    assert outside < 0.5 * inside
