"""What the physics rule takes for disease in a real scan is not taught as healthy lung."""

from __future__ import annotations

from diffseglung.config import PhantomConfig
from diffseglung.labelling.backgrounds import background_of
from diffseglung.labels import CONSOLIDATION, HEALTHY
from diffseglung.phantom.procedural import make_phantom


def test_disease_is_left_out_and_healthy_lung_stays() -> None:
    found = {}
    for healthy in (True, False):
        models = () if healthy else ("consolidation_lobar",)
        case = make_phantom(PhantomConfig(seed=3, size="small", healthy=healthy, models=models))
        found[healthy] = background_of(case.ct, case.lungs)
        if not healthy:
            drawn = (case.truth.array == CONSOLIDATION.id).sum() / (case.truth.array >= HEALTHY.id).sum()
    shares = {name: value.unknown.sum() / (value.lungs > 0).sum() for name, value in found.items()}
    assert shares[True] < 0.02
    assert shares[False] > 0.5 * drawn > 0.01
