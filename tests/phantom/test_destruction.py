"""Emphysema: tissue is lost."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from diffseglung.labels import EMPHYSEMA
from diffseglung.phantom import destruction
from diffseglung.phantom.record import Draw
from diffseglung.phantom.region import Region

Make = Callable[..., tuple[Region, Draw]]


@pytest.mark.parametrize(
    "paint", [destruction.centrilobular, destruction.panlobular, destruction.paraseptal, destruction.bullous]
)
def test_emphysema_is_darker_but_never_below_air(region: Make, paint: Callable[..., None]) -> None:
    found, draw = region("upper_rim")
    paint(found, draw)
    labelled = found.parts.truth[found.box] == EMPHYSEMA.id
    assert labelled.sum() > 50
    assert np.median(found.parenchyma[labelled]) < -890
    assert found.parenchyma.min() >= -1000


def test_panlobular_loss_is_mild_and_keeps_vessels(region: Make) -> None:
    found, draw = region("lower")
    vessels = found.vessels.sum()
    destruction.panlobular(found, draw)
    labelled = found.parts.truth[found.box] == EMPHYSEMA.id
    assert -955 < np.median(found.parenchyma[labelled]) < -890
    assert found.vessels.sum() > 0.3 * vessels


def test_paraseptal_spaces_lie_under_the_pleura(region: Make) -> None:
    found, draw = region("upper_rim")
    destruction.paraseptal(found, draw)
    labelled = found.parts.truth[found.box] == EMPHYSEMA.id
    assert np.percentile(found.depth[labelled], 90) < 18
