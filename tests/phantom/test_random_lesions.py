"""Randomised lesions keep to the definition of their class."""

from __future__ import annotations

import numpy as np
import pytest

from diffseglung.labels import CONSOLIDATION, EMPHYSEMA, FIBROSIS, GGO, HEALTHY, LESIONS, Label
from diffseglung.phantom.canvas import UNKNOWN
from diffseglung.phantom.random_lesions import draw_lesions
from tests.phantom.test_canvas import LUNG_HU, even_lung


@pytest.mark.parametrize("label", LESIONS, ids=lambda label: label.name)
def test_each_class_reads_as_its_definition_says(label: Label) -> None:
    """Over many draws: emphysema loses tissue, haze and scar add some, consolidation is airless."""
    found = []
    for seed in range(12):
        drawn = even_lung(seed)
        draw_lesions(drawn, {label.id: 1})
        where = drawn.truth == label.id
        assert set(np.unique(drawn.truth)) <= {0, HEALTHY.id, label.id, GGO.id, UNKNOWN}
        assert not drawn.truth[~drawn.lung].any()
        if where.sum() > 50:
            found.append((np.median(drawn.parenchyma[where]), drawn.parenchyma[where].std()))
    middle, spread = np.median(found, axis=0)
    assert len(found) > 6
    if label == EMPHYSEMA:
        assert middle < LUNG_HU - 30
    elif label == GGO:
        assert -800 < middle < -350
    elif label == CONSOLIDATION:
        assert middle > -250
    else:
        assert label == FIBROSIS
        assert spread > 60
