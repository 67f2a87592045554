"""The table's arithmetic on made-up cases, and that variants do what their names say."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from diffseglung.case.positions import positions
from diffseglung.tissue.local import NAMES
from diffseglung.tissue.rule import physics_posterior
from studies import ablations
from studies.ablations import Lessons, Variant, confusion, in_place, outcomes
from studies.probes import Probe, Reading


def made_up(seed: int) -> Probe:
    """A ball of lung in which tissue follows the density: one half healthy, one half ground glass."""
    random = np.random.default_rng(seed)
    where = positions((np.indices((24,) * 3) - 11.5).__pow__(2).sum(0) < 130)
    label = np.where(where.index[:, 2] < 6, 0, 2)
    local = random.normal(0, 1, (len(label), len(NAMES))).astype(np.float32)
    density = [i for i, name in enumerate(NAMES) if "_q" in name]
    hu = np.where(label == 0, -860, -500).astype(np.float32)
    local[:, density] = hu[:, None] + random.normal(0, 8, (len(label), 1))
    local[:, NAMES.index("near_sd")] = 12
    features = np.eye(8, dtype=np.float16)[label] + random.normal(0, 0.1, (len(label), 8)).astype(np.float16)
    columns = {f"ours/{level}/projected": features for level in ablations.LEVELS}
    return Probe(f"case{seed}", where, 1.5, local, hu, label, np.arange(len(label)), columns)


PROBES = [made_up(seed) for seed in range(3)]


@pytest.fixture(autouse=True)
def short_lessons(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told apart so easily is learned in a tenth of the time."""
    monkeypatch.setattr(ablations, "STUDENT", dataclasses.replace(ablations.STUDENT, iterations=80))


def perfect(probe: Probe) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.from_numpy(probe.kept_truth), 5).float()


def test_confusion_counts_known_positions() -> None:
    truth = np.array([0, 2, -1, 4])
    counts = confusion(torch.eye(5)[[0, 3, 1, 4]], truth)
    assert counts.sum() == 3
    assert counts[0, 0] == counts[2, 3] == counts[4, 4] == 1


def test_gains_are_paired_and_against_the_first_of_the_group() -> None:
    flip = Variant("a", "wrong", lambda p: perfect(p)[:, [2, 1, 0, 3, 4]])
    right = Variant("a", "right", perfect)
    found = list(outcomes([right, Variant("a", "same", perfect), flip], PROBES))
    assert found[0].dice[-1].value == pytest.approx(1)
    assert found[1].gain.value == found[1].gain.low == found[1].gain.high == 0
    assert found[2].gain.value == pytest.approx(-1)
    assert "| wrong |" in ablations.markdown(found)


def test_a_rule_without_reach_is_the_rule_alone() -> None:
    probe = PROBES[0]
    alone = next(v for v in ablations.rule_variants() if v.name == "alone")
    expected = in_place(probe, torch.from_numpy(physics_posterior(probe.local)))
    torch.testing.assert_close(alone.posterior(probe), expected)


def test_every_rule_variant_differs_from_the_default_by_what_it_leaves_out() -> None:
    names = [v.name for v in ablations.rule_variants()]
    assert len(names) == len(set(names))
    assert names[0].endswith("(default)")


@pytest.mark.parametrize("columns", [("local",), ("ours/0/projected",)])
def test_students_learn_what_the_rule_teaches(columns: tuple[str, ...]) -> None:
    student = Lessons.of(PROBES[:2]).student(*columns, dimensions=None, rows=500)
    agreed = (student(PROBES[2]).argmax(1).numpy() == PROBES[2].truth).mean()
    assert agreed > 0.9


def test_a_cohort_s_components_are_named_by_their_hu() -> None:
    responsibility = np.repeat(np.eye(3, dtype=np.float32), 50, axis=0)
    hu = np.repeat(np.array([-950, -860, 0], np.float32), 50)
    assert ablations.named_components(responsibility, hu).argmax(1).tolist() == [1, 0, 4]


def test_mixtures_of_separable_features_find_the_tissues() -> None:
    rows = list(outcomes(ablations.mixture_variants("ours", Lessons.of(PROBES[:2])), PROBES))
    physics = next(r for r in rows if r.name == "a mixture for the cohort, K = 5, physics names")
    assert physics.dice[0].value > 0.9
    assert physics.dice[2].value > 0.9


def test_a_row_may_read_the_cases_otherwise() -> None:
    blind = [dataclasses.replace(p, truth=np.where(p.truth == 2, 0, p.truth)) for p in PROBES]
    asked: list[Reading] = []

    def gathered(reading: Reading) -> list[Probe]:
        asked.append(reading)
        return blind if reading.intensity == "plain" else PROBES

    found = {o.name: o.dice for o in outcomes(ablations.reading_variants(gathered), PROBES)}
    assert asked == list(ablations.READINGS.values())
    assert found["HU as they are"][0].value < found["aligned HU (default)"][0].value
