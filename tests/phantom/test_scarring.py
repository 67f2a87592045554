"""Fibrosis: a network, cysts with walls; its mean density is not what tells it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from diffseglung.labels import FIBROSIS
from diffseglung.phantom import scarring
from diffseglung.phantom.record import Draw
from diffseglung.phantom.region import Region

Make = Callable[..., tuple[Region, Draw]]
MODELS = [scarring.reticulation, scarring.sparse, scarring.honeycomb, scarring.traction]


@pytest.mark.parametrize("paint", MODELS)
def test_fibrosis_has_more_texture_than_the_lung_had(region: Make, paint: Callable[..., None]) -> None:
    found, draw = region("basal_rim")
    paint(found, draw)
    labelled = found.parts.truth[found.box] == FIBROSIS.id
    assert labelled.sum() > 50
    assert found.parts.compose()[found.box][labelled].std() > 60


def test_honeycomb_cysts_are_as_dark_as_emphysema_and_have_walls(region: Make) -> None:
    found, draw = region("basal_rim")
    scarring.honeycomb(found, draw)
    hu = found.parenchyma[found.parts.truth[found.box] == FIBROSIS.id]
    assert np.percentile(hu, 10) < -890
    assert np.percentile(hu, 95) > -500


def test_sparse_reticulation_leaves_most_of_the_lung_nearly_normal(region: Make) -> None:
    found, draw = region("basal_rim")
    scarring.sparse(found, draw)
    hu = found.parenchyma[found.parts.truth[found.box] == FIBROSIS.id]
    assert -865 < np.median(hu) < -760
