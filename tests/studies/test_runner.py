"""A run can be stopped anywhere; what is kept is what would be computed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from diffseglung.platform.errors import InputError
from diffseglung.volume import Volume
from studies import cases, compared_methods, runner
from studies.cases import VERSION, CaseSpec
from studies.runner import Plan, folder_jobs, run_all, unpack
from tests.studies.benchmarked import write_cases
from tests.toy_models import small_phantom

NAMES = ("fixed_mixture", "hu_bands_slicer")


@pytest.fixture
def jobs(tmp_path: Path) -> list[runner.Job]:
    return folder_jobs(write_cases(tmp_path / "cases"), tmp_path / "out")


def plan(*names: str, **more: object) -> Plan:
    chosen, _ = compared_methods.choose(list(names or NAMES), None)
    return Plan(candidates=tuple(chosen), surfaces=False, **more)  # type: ignore[arg-type]


def states(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {p.relative_to(folder).as_posix(): (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*.json")}


def test_a_stopped_run_goes_on_where_it_was(
    jobs: list[runner.Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second method fails on the second case; what was done stays, untouched, and the rest follows."""
    right, calls = compared_methods.BASELINES["hu_bands_slicer"], []

    def fails_on_the_second(ct: Volume, lungs: Volume) -> Volume:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("power cut")
        return right(ct, lungs)

    monkeypatch.setitem(compared_methods.BASELINES, "hu_bands_slicer", fails_on_the_second)
    with pytest.raises(RuntimeError, match="power cut"):
        list(run_all(jobs, plan()))
    before = states(tmp_path / "out")
    assert len(before) == 5
    assert all(json.loads(content) for _, content in before.values())
    assert dict(run_all(jobs, plan())) == {"case3": 0, "case4": 1}
    after = states(tmp_path / "out")
    kept = [name for name in before if "case.json" not in name]
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert len(after) == 6
    assert not list(tmp_path.rglob("*.part"))


def test_nothing_is_computed_twice_and_a_changed_key_is(jobs: list[runner.Job], tmp_path: Path) -> None:
    assert dict(run_all(jobs[:1], plan())) == {"case3": 2}
    assert dict(run_all(jobs[:1], plan())) == {"case3": 0}
    assert dict(run_all(jobs[:1], plan(sources="other"))) == {"case3": 2}
    assert dict(run_all(jobs[:1], plan())) == {"case3": 2}
    assert dict(run_all(jobs[:1], plan(sources="other", keep=True))) == {"case3": 0}
    (tmp_path / "out/results/case3/fixed_mixture.json").write_text("{ half a fi", encoding="utf-8")
    assert dict(run_all(jobs[:1], plan())) == {"case3": 1}
    candidate = plan().candidates[0]
    key = runner.result_key(jobs[0], candidate, plan())
    assert runner.result_key(jobs[1], candidate, plan()) != key
    assert runner.result_key(jobs[0], candidate, dataclasses.replace(plan(), surfaces=True)) != key


def test_results_depend_on_the_sources_of_the_package_and_of_the_studies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "__file__", str(tmp_path / "studies" / "runner.py"))
    hashes = []
    for name in ("diffseglung/pipeline.py", "studies/scores.py", "diffseglung/cli/info.py", "studies/page.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("a = 1\n", encoding="utf-8")
        hashes.append(runner.source_hash())
    assert hashes[0] != hashes[1]
    assert hashes[1] == hashes[2] == hashes[3]


def test_a_replaced_case_is_run_anew(jobs: list[runner.Job], tmp_path: Path) -> None:
    list(run_all(jobs[:1], plan()))
    for name in runner.FILES:
        (jobs[0].folder / name).write_bytes((jobs[1].folder / name).read_bytes())
    assert dict(run_all(jobs[:1], plan())) == {"case3": 2}


@pytest.mark.slow
def test_workers_give_the_same_results(jobs: list[runner.Job], tmp_path: Path) -> None:
    list(run_all(jobs, plan()))
    elsewhere = [dataclasses.replace(job, results=tmp_path / "twin" / job.name) for job in jobs]
    assert dict(run_all(elsewhere, plan(), workers=2)) == {"case3": 2, "case4": 2}
    for job, twin in zip(jobs, elsewhere, strict=True):
        for name in NAMES:
            first, second = (runner.read_json(j.results / f"{name}.json") for j in (job, twin))
            assert first["scores"] == second["scores"]


def test_a_posterior_is_scored_on_the_scan_s_own_voxels(jobs: list[runner.Job]) -> None:
    list(run_all(jobs[:1], plan("rule")))
    found = runner.read_json(jobs[0].results / "rule.json")
    bins = np.array(found["calibration"]["bins"])
    voxels = int((small_phantom(3).truth.array > 0).sum())
    assert min(voxels, runner.CALIBRATION_VOXELS) <= bins[0].sum() == found["calibration"]["positions"] <= voxels
    right = np.trace(found["scores"]["confusion"]) / voxels
    assert bins[2].sum() / bins[0].sum() == pytest.approx(right, abs=0.01)


def test_the_shown_slice_is_the_one_with_most_disease(jobs: list[runner.Job]) -> None:
    list(run_all(jobs[:1], plan("fixed_mixture")))
    shown = unpack(runner.read_json(jobs[0].results / "case.json")["slice"]["truth"])
    truth = small_phantom(3).truth.array
    assert (shown > 1).sum() == (truth > 1).sum((1, 2)).max()


def test_cases_of_the_catalogue_are_made_below_the_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The spec alone decides what is current: a deleted case is not needed again."""
    spec = CaseSpec(
        name="one", split="dev", kind="phantom", seed=3, models=(), background=None, condition="standard",
        severity="healthy", novelty="healthy", size="small",
    )  # fmt: skip
    made: list[Path] = []

    def make(spec: CaseSpec, folder: Path, backgrounds: Path | None) -> None:
        made.append(folder)
        write_cases(folder.parent, (3,))
        (folder.parent / "case3").rename(folder)

    monkeypatch.setattr(cases, "make_case", make)
    (job,) = runner.catalogue_jobs((spec,), tmp_path)
    assert dict(run_all([job], plan("fixed_mixture"))) == {"one": 1}
    assert dict(run_all([job], plan("fixed_mixture"))) == {"one": 0}
    assert made == [tmp_path / "cases" / "one"]
    described = runner.read_json(job.results / "case.json")
    assert described["strata"] == spec.strata
    assert runner.read_json(job.results / "fixed_mixture.json")["key"]["catalogue"] == VERSION


def test_folders_without_whole_cases_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        folder_jobs(tmp_path, tmp_path / "out")
    (write_cases(tmp_path / "cases", (3,)) / "case3" / "lungs.nii.gz").unlink()
    with pytest.raises(InputError, match=r"lungs\.nii\.gz"):
        folder_jobs(tmp_path / "cases", tmp_path / "out")
