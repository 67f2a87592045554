"""What does not change has not moved; what moves is counted; what was measured is not measured again."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffseglung.case.alignment import AIR_HU
from diffseglung.platform.errors import GeometryError
from diffseglung.volume import Reorientation, Volume
from studies import robustness
from studies.robustness import Subject, compare, exhale_subject, noisier, onto, run, thickened


@pytest.fixture
def subject(oblique_affine: np.ndarray) -> Subject:
    """Two boxes of lung, half of one dark: 40 x 30 x 40 voxels on an oblique, flipped grid."""
    hu = np.full((40, 30, 40), 30.0, np.float32)
    lungs = np.zeros(hu.shape, np.uint8)
    lungs[4:36, 5:25, 4:18], lungs[4:36, 5:25, 22:36] = 1, 2
    hu[lungs > 0] = -860
    hu[4:20, 5:25, 4:18] = -960
    ct = Volume(hu, oblique_affine)
    return Subject("box", ct, ct.with_array(lungs))


def threshold(ct: Volume, lungs: Volume) -> Volume:
    """Emphysema below -950 HU, else healthy."""
    return ct.with_array(np.where(lungs.array > 0, 1 + (ct.array < -950), 0).astype(np.uint8))


def deaf(ct: Volume, lungs: Volume) -> Volume:
    """Healthy whatever is seen."""
    return ct.with_array((lungs.array > 0).astype(np.uint8))


def test_the_same_map_has_not_moved(subject: Subject) -> None:
    labels = threshold(subject.ct, subject.lungs)
    found = compare(labels, labels, subject.lungs)
    assert [s["points"] for s in found["shares"].values()] == [0.0] * 5
    assert (found["dice"]["healthy"], found["dice"]["emphysema"], found["same"]) == (1.0, 1.0, 100.0)
    assert np.isnan(found["dice"]["fibrosis"])


def test_points_are_of_the_lung_and_add_up_to_nothing(subject: Subject) -> None:
    before = threshold(subject.ct, subject.lungs)
    after = before.with_array(np.where(before.array == 2, 3, before.array))
    found = compare(before, after, subject.lungs)
    assert found["shares"]["emphysema"]["points"] == pytest.approx(-25)
    assert found["shares"]["ggo"]["points"] == pytest.approx(25)
    assert sum(s["points"] for s in found["shares"].values()) == pytest.approx(0)
    assert found["dice"]["emphysema"] == 0
    assert found["same"] == pytest.approx(75)


def test_a_shift_moves_a_threshold_as_far_as_it_crosses_it(subject: Subject) -> None:
    rows = dict(robustness.measure(subject, threshold, ["shift +15 HU", "shift -15 HU"]))
    assert rows["shift +15 HU"]["shares"]["emphysema"]["points"] == pytest.approx(-25)
    assert rows["shift -15 HU"]["shares"]["emphysema"]["points"] == 0


def test_every_change_leaves_a_deaf_method_where_it_was(subject: Subject) -> None:
    changes = subject.changes()
    assert len(changes) == 5
    for change, row in robustness.measure(subject, deaf, changes):
        assert row["shares"]["emphysema"]["points"] == 0, change
        assert row["same"] == 100, change


def test_noise_is_as_strong_as_asked_and_fixed(subject: Subject) -> None:
    added = noisier(subject.ct, 20.0) - subject.ct.array
    away = (subject.ct.array > AIR_HU + 100) & (subject.ct.array < 3000)
    assert added[away].std() == pytest.approx(20, rel=0.05)
    assert np.array_equal(added, noisier(subject.ct, 20.0) - subject.ct.array)


def test_thick_slices_come_back_to_their_place(subject: Subject) -> None:
    upright = Reorientation.of(subject.ct).apply(subject.ct)
    thick = thickened(upright, 5.0)
    assert thick.spacing_mm[0] == pytest.approx(5.0)
    assert thick.array.mean() == pytest.approx(upright.array.mean(), rel=0.01)
    back = onto(thick, subject.ct)
    assert back.same_grid(subject.ct)
    assert np.mean(np.abs(back.array - subject.ct.array) < 1) > 0.9


def test_onto_its_own_grid_is_the_identity_and_outside_is_background(subject: Subject) -> None:
    labels = threshold(subject.ct, subject.lungs)
    assert np.array_equal(onto(labels, subject.ct).array, labels.array)
    part = labels.crop((10, 0, 0), (30, 30, 40))
    back = onto(part, subject.ct).array
    assert np.array_equal(back[10:30], labels.array[10:30])
    assert not back[:10].any()
    assert not back[30:].any()


def test_a_twin_on_another_grid_is_refused(subject: Subject) -> None:
    with pytest.raises(GeometryError, match="another grid"):
        Subject("a", subject.ct, subject.lungs, {"kernel": subject.ct.crop((0, 0, 0), (20, 30, 40))})


def test_a_run_goes_on_where_it_was_stopped(tmp_path: Path, subject: Subject) -> None:
    calls: list[str] = []

    def counted(ct: Volume, lungs: Volume) -> Volume:
        calls.append("")
        if len(calls) == 4:
            raise KeyboardInterrupt
        return threshold(ct, lungs)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, [subject], labellers={"t": counted})
    assert len(json.loads((tmp_path / "robustness.json").read_text(encoding="utf-8"))["rows"]) == 2
    seen: list[Any] = []

    def track(jobs: Iterable[Any], total: int) -> Iterable[Any]:
        seen.append(total)
        return jobs

    rows = run(tmp_path, [subject], labellers={"t": counted}, track=track)
    assert (len(rows), len(calls), seen) == (5, 4 + 1 + 3, [1])
    whole = run(tmp_path / "new", [subject], labellers={"t": threshold})
    assert {r["change"]: r["same"] for r in rows} == {r["change"]: r["same"] for r in whole}
    lines = list(csv.DictReader((tmp_path / "robustness.csv").read_text(encoding="utf-8").splitlines()))
    assert len(lines) == 25
    assert {line["dice"] for line in lines if line["class"] == "fibrosis"} == {""}
    assert len((tmp_path / "robustness.md").read_text(encoding="utf-8").splitlines()) == 2 + 5
    assert not list(tmp_path.glob("*.part"))


def test_another_scan_of_the_same_name_is_measured_anew(tmp_path: Path, subject: Subject) -> None:
    run(tmp_path, [subject], labellers={"t": threshold})
    other = Subject("box", subject.ct.with_array(subject.ct.array + 100), subject.lungs)
    assert len(run(tmp_path, [other], labellers={"t": threshold})) == 10


def test_breathing_out_changes_nothing_but_density() -> None:
    found = exhale_subject(3, size="small")
    inside = found.lungs.array > 0
    assert found.changes() == ["exhale"]
    out, _ = found.changed("exhale")
    assert np.median(out.array[inside]) > np.median(found.ct.array[inside]) + 40
