"""What the physics rule takes for disease in a scan is not taught as healthy, and taught where it is certain."""

from __future__ import annotations

from diffseglung.labels import CONSOLIDATION, EMPHYSEMA, FIBROSIS, GGO, HEALTHY, LESIONS
from diffseglung.phantom.procedural import make_phantom
from diffseglung.platform.config import PhantomConfig
from diffseglung.training.backgrounds import background_of


def test_disease_is_named_where_certain_and_healthy_nowhere() -> None:
    share = {}
    for healthy in (True, False):
        case = make_phantom(PhantomConfig(seed=4, size="small", healthy=healthy))
        found = background_of(case.ct, case.lungs)
        share[healthy] = (found.truth > HEALTHY.id).sum() / (found.lungs > 0).sum()
    assert share[True] < 0.02
    lungs = case.truth.array >= HEALTHY.id
    drawn = {label.id: (case.truth.array[lungs] == label.id).mean() for label in LESIONS}
    assert share[False] > 0.7 * sum(drawn.values()) > 0.1
    named = {label.id: (found.truth[found.lungs > 0] == label.id).mean() for label in LESIONS}
    for label in (EMPHYSEMA, CONSOLIDATION):
        assert 0.2 * drawn[label.id] < named[label.id] < 1.2 * drawn[label.id]
    assert named[GGO.id] == named[FIBROSIS.id] == 0
