"""The table of lesion models, and sets of lesions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from diffseglung.labels import EMPHYSEMA, FIBROSIS, GGO, HEALTHY, LESIONS, TISSUES, Label
from diffseglung.phantom import lesions
from diffseglung.phantom.record import SPLITS, ChestParts, Draw
from diffseglung.platform.errors import ConfigError


@pytest.mark.parametrize("label", LESIONS)
def test_every_split_has_two_models_of_every_pathology(label: Label) -> None:
    for split in SPLITS:
        assert len(lesions.models_for(split, label)) >= (1 if split == "dev" else 2)


@pytest.mark.parametrize("label", LESIONS)
def test_every_pathology_has_a_model_that_only_test_draws(label: Label) -> None:
    assert any(m.splits == ("test",) for m in lesions.models_for("test", label))


def test_every_class_can_be_reached(parts: ChestParts) -> None:
    names = ("emphysema_panlobular", "fibrosis_sparse", "ggo_geographic", "consolidation_lobar")
    found: set[int] = set()
    for seed in range(4):
        lesions.add(parts, Draw(seed), names=names)
        found |= set(np.unique(parts.truth).tolist())
    assert found == {0, *(t.id for t in TISSUES)}


def test_truth_is_zero_outside_the_lungs_and_a_tissue_inside(parts: ChestParts) -> None:
    lesions.add(parts, Draw(1))
    assert (parts.truth[parts.lungs == 0] == 0).all()
    assert (parts.truth[parts.lungs > 0] >= HEALTHY.id).all()


def test_records_say_what_was_added(parts: ChestParts) -> None:
    records = lesions.add(parts, Draw(2), names=("ggo_geographic",))
    assert [r["model"] for r in records] == ["ggo_geographic"]
    volume = (parts.truth == GGO.id).sum() * 1.2**3 / 1000
    assert records[0]["added_ml"] == pytest.approx(volume, abs=1e-3)
    assert "ggo_fill" in records[0]


def test_no_names_mean_no_lesions(parts: ChestParts) -> None:
    assert lesions.add(parts, Draw(0), names=()) == []
    assert (parts.parenchyma == -860).all()


def test_an_unknown_model_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="ggo_nodular"):
        lesions.check_models(("ggo_nodule",))


@pytest.mark.parametrize(("first", "second"), [(EMPHYSEMA, FIBROSIS), (FIBROSIS, GGO), (HEALTHY, EMPHYSEMA)])
def test_classes_overlap_in_hu(first: Label, second: Label, diseased: Callable[[Label], np.ndarray]) -> None:
    """Each pair shares a range of HU that holds at least a tenth of both."""
    a, b = diseased(first), diseased(second)
    low, high = max(np.percentile(a, 3), np.percentile(b, 3)), min(np.percentile(a, 97), np.percentile(b, 97))
    assert ((a > low) & (a < high)).mean() > 0.1
    assert ((b > low) & (b < high)).mean() > 0.1


@pytest.fixture(scope="module")
def diseased() -> Callable[[Label], np.ndarray]:
    """HU of one class in a small phantom with all diseases."""
    from diffseglung.phantom.procedural import make_phantom
    from diffseglung.platform.config import PhantomConfig

    models = ("emphysema_panlobular", "fibrosis_honeycomb", "ggo_geographic")
    phantom = make_phantom(PhantomConfig(seed=12, size="small", models=models))
    return lambda label: phantom.ct.array[phantom.truth.array == label.id]
