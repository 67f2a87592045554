"""Degrees of disease."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from diffseglung.labels import CONSOLIDATION, EMPHYSEMA, GGO, HEALTHY
from diffseglung.phantom import lesions
from diffseglung.phantom.procedural import make_phantom
from diffseglung.phantom.record import ChestParts, Draw, Phantom
from diffseglung.phantom.region import Region
from diffseglung.phantom.severity import SEVERITIES, severity_of
from diffseglung.platform.config import PhantomConfig
from diffseglung.platform.errors import ConfigError

MODELS = ("ggo_geographic", "consolidation_lobar", "emphysema_panlobular")


@pytest.fixture(scope="module")
def degrees() -> dict[str, list[Phantom]]:
    """A few small phantoms of every degree."""
    shared = PhantomConfig(size="small", split="dev", models=MODELS, condition="standard")
    return {
        name: [make_phantom(dataclasses.replace(shared, seed=seed, severity=name)) for seed in (0, 1)]
        for name in SEVERITIES
    }


def test_more_severe_cases_hold_more_disease(degrees: dict[str, list[Phantom]]) -> None:
    def share(name: str) -> float:
        cases = degrees[name]
        sick, lung = (sum(int((c.truth.array > above).sum()) for c in cases) for above in (HEALTHY.id, 0))
        return sick / lung

    assert 0 < share("subtle") < 0.5 * share("moderate") < 0.5 * share("extensive")


def test_every_model_is_drawn_as_often_as_the_degree_says(degrees: dict[str, list[Phantom]]) -> None:
    for name, cases in degrees.items():
        low, high = SEVERITIES[name].count
        for case in cases:
            drawn = [record["model"] for record in case.meta["lesions"]]
            assert all(low <= drawn.count(model) <= high for model in MODELS)


def test_a_random_mix_has_a_degree_too(parts: ChestParts) -> None:
    low, high = SEVERITIES["moderate"].count
    drawn = [record["model"] for record in lesions.add(parts, Draw(0), severity="moderate")]
    assert drawn
    assert all(low <= drawn.count(model) <= high for model in drawn)


def test_subtle_consolidation_is_small_and_not_faint() -> None:
    """A faint one would be ground glass."""
    for seed in range(5):
        draw = Draw(seed)
        assert severity_of("subtle").kept(draw, CONSOLIDATION) == 1  # type: ignore[union-attr]
        assert severity_of("subtle").kept(draw, EMPHYSEMA) < 1  # type: ignore[union-attr]
        assert severity_of("extensive").kept(draw, GGO) == 1  # type: ignore[union-attr]


def test_a_kept_share_scales_the_change_and_not_the_extent(
    parts: ChestParts, region: Callable[..., tuple[Region, Draw]]
) -> None:
    """HU = healthy + share * (full lesion - healthy), for the same lesion."""
    model = next(m for m in lesions.MODELS if m.name == "ggo_geographic")
    changes, extents = [], []
    for share in (1.0, 0.25):
        there, draw = region()
        there.parts.parenchyma[:] = -860
        there.parts.truth[:] = there.parts.lungs
        lesions._paint(model, there, draw, share)
        changes.append(parts.parenchyma + 860)
        extents.append(parts.truth.copy())
    np.testing.assert_allclose(changes[1], 0.25 * changes[0], atol=0.02)
    np.testing.assert_array_equal(extents[0], extents[1])


def test_an_unknown_degree_is_refused() -> None:
    assert severity_of("any") is None
    with pytest.raises(ConfigError, match="moderate"):
        severity_of("severe")
