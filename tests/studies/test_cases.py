"""The catalogue: what the lists promise, and that a case is made once, whole, and the same everywhere."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from diffseglung import io
from diffseglung.labels import BY_NAME, LESIONS
from diffseglung.phantom import procedural
from diffseglung.phantom.lesions import MODELS, check_models
from diffseglung.platform.errors import InputError
from diffseglung.volume import Volume
from studies import cases
from studies.cases import BACKGROUNDS, LISTS, VERSION, CaseSpec, make_case

EVERY = [spec for specs in LISTS.values() for spec in specs]
TEST, DEV = LISTS["test"], LISTS["dev"]
ROOT = Path(__file__).parents[2]


def drawn_labels(spec: CaseSpec) -> set[str]:
    return {model.label.name for model in MODELS if model.name in spec.models}


def test_names_and_seeds_are_unique() -> None:
    assert len({spec.name for spec in EVERY}) == len(EVERY)
    assert len({(spec.split, spec.seed) for spec in EVERY}) == len(EVERY)


@pytest.mark.parametrize("spec", EVERY, ids=[spec.name for spec in EVERY])
def test_a_spec_does_not_contradict_itself(spec: CaseSpec) -> None:
    check_models(spec.models)
    assert (spec.models == ()) == (spec.severity == "healthy") == (spec.novelty == "healthy")
    assert (spec.background is None) == (spec.kind == "phantom")
    assert (spec.kind == "real") == (spec.background is not None and not spec.models)
    assert spec.condition != "exhale" or spec.kind == "phantom"
    unseen = [m.splits == ("test",) for m in MODELS if m.name in spec.models]
    if unseen:
        assert spec.novelty == ("unseen" if all(unseen) else "mixed" if any(unseen) else "seen")


def test_the_test_list_is_large_and_covers_what_is_hard() -> None:
    count = {key: Counter(spec.strata[key] for spec in TEST) for key in TEST[0].strata}
    assert count["kind"] == {"phantom": 24, "drawn": 12, "real": 1}
    assert count["novelty"]["unseen"] >= 9
    assert count["novelty"]["seen"] >= 9
    assert min(count["condition"][c] for c in ("low_dose", "sharp", "thick", "exhale")) >= 3
    assert 0.4 < count["condition"]["standard"] / len(TEST) < 0.6
    assert min(count["severity"][s] for s in ("subtle", "moderate", "extensive")) >= 9
    assert sum(spec.kind == "phantom" and not spec.models for spec in TEST) >= 3
    held = Counter(name for spec in TEST for name in drawn_labels(spec))
    assert all(held[label.name] >= 12 for label in LESIONS)
    assert {model.name for model in MODELS} == {name for spec in TEST for name in spec.models}


def test_development_sees_nothing_that_is_kept_for_the_test() -> None:
    kept = {model.name for model in MODELS if model.splits == ("test",)}
    for spec in (*DEV, *LISTS["quick"]):
        assert spec.split == "dev"
        assert not kept & set(spec.models)
    assert all(spec.split == "test" for spec in TEST)
    assert not {spec.background for spec in TEST if spec.background} & {spec.background for spec in DEV}


def test_a_case_is_made_once_and_holds_what_its_spec_says(tmp_path: Path) -> None:
    spec = LISTS["quick"][0]
    folder = tmp_path / spec.name
    make_case(spec, folder, None)
    ct, lungs, truth = (io.read_volume(folder / "ct.nii.gz"), *(_mask(folder, n) for n in ("lungs", "truth")))
    assert ct.array.min() >= -1024
    np.testing.assert_array_equal(lungs.array > 0, truth.array > 0)
    assert {BY_NAME[name].id for name in drawn_labels(spec)} <= set(np.unique(truth.array).tolist())
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    assert meta["spec"] == json.loads(json.dumps(dataclasses.asdict(spec)))
    assert meta["catalogue_version"] == VERSION
    written = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}
    make_case(spec, folder, None)
    assert {p.name: p.stat().st_mtime_ns for p in folder.iterdir()} == written


def test_a_folder_that_holds_something_else_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That a chest drawn again is the same is a law of its own, so it is drawn once."""
    monkeypatch.setattr(procedural, "make_phantom", functools.cache(procedural.make_phantom))
    spec = dataclasses.replace(LISTS["quick"][0], models=(), severity="healthy", novelty="healthy")
    make_case(spec, tmp_path / "case", None)
    before = {p.name: p.read_bytes() for p in (tmp_path / "case").iterdir()}
    meta = tmp_path / "case" / "meta.json"
    values = json.loads(meta.read_text(encoding="utf-8"))
    other_version = values | {"catalogue_version": VERSION - 1}
    other_spec = values | {"spec": values["spec"] | {"seed": 7}}
    for fault in (json.dumps(other_version), json.dumps(other_spec), "{", "[]", None):
        if fault is None:
            (tmp_path / "case" / "truth.nii.gz").unlink()
        else:
            meta.write_text(fault)
        make_case(spec, tmp_path / "case", None)
        assert {p.name: p.read_bytes() for p in (tmp_path / "case").iterdir()} == before


def test_the_untouched_scan_is_all_healthy(tmp_path: Path) -> None:
    spec = next(spec for spec in TEST if spec.kind == "real")
    make_case(spec, tmp_path / "real", None)
    truth, lungs = _mask(tmp_path / "real", "truth"), _mask(tmp_path / "real", "lungs")
    np.testing.assert_array_equal(truth.array, (lungs.array > 0).astype(np.uint8))
    scan = io.read_volume(ROOT / "demo" / "lidc_1011.nii.gz")
    np.testing.assert_array_equal(io.read_volume(tmp_path / "real" / "ct.nii.gz").array, scan.array)


def test_lesions_stay_in_the_lung_without_the_tumour(tmp_path: Path) -> None:
    spec = next(spec for spec in TEST if spec.background == "lungdx_A0002_s3")
    make_case(spec, tmp_path / "drawn", None)
    assert set(np.unique(_mask(tmp_path / "drawn", "lungs").array).tolist()) == {0, 2}
    truth = _mask(tmp_path / "drawn", "truth")
    assert truth.spacing_mm[0] == pytest.approx(5.0)
    assert {BY_NAME[name].id for name in drawn_labels(spec)} <= set(np.unique(truth.array).tolist())


def test_a_missing_background_is_an_answer(tmp_path: Path) -> None:
    spec = next(spec for spec in DEV if spec.kind == "drawn")
    for folder in (None, tmp_path):
        with pytest.raises(InputError, match="not shipped"):
            make_case(spec, tmp_path / "out", folder)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / BACKGROUNDS["lctsc_203"].ct).write_bytes(b"another scan")
    with pytest.raises(InputError, match="not the file"):
        make_case(spec, tmp_path / "out", tmp_path)
    assert not (tmp_path / "out").exists()


def test_backgrounds_are_found_in_sub_folders_and_shipped_ones_win(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = BACKGROUNDS["lungdx_A0002_s3"]
    (tmp_path / "a" / "b").mkdir(parents=True)
    copy = tmp_path / "a" / "b" / entry.ct
    copy.write_bytes((cases.SHIPPED / entry.ct).read_bytes())
    (tmp_path / "a" / entry.ct).write_bytes(b"the same name, another file")
    assert cases._find(entry.ct, entry.ct_sha256, tmp_path, entry.source) == cases.SHIPPED / entry.ct
    monkeypatch.setattr(cases, "SHIPPED", tmp_path / "nothing")
    assert cases._find(entry.ct, entry.ct_sha256, tmp_path, entry.source) == copy


@pytest.mark.slow
@pytest.mark.parametrize("spec", TEST[3::7], ids=[spec.name for spec in TEST[3::7]])
def test_every_model_of_a_spec_is_really_there(tmp_path: Path, spec: CaseSpec) -> None:
    """At least 1, 4 or 8 mL of every model and of every pathology, by severity."""
    least_ml = {"subtle": 1.0, "moderate": 4.0, "extensive": 8.0}[spec.severity]
    make_case(spec, tmp_path / "case", None)
    lesions = json.loads((tmp_path / "case" / "meta.json").read_text(encoding="utf-8"))["lesions"]
    for model in spec.models:
        assert sum(lesion["added_ml"] for lesion in lesions if lesion["model"] == model) >= least_ml
    truth = _mask(tmp_path / "case", "truth")
    for name in drawn_labels(spec):
        assert (truth.array == BY_NAME[name].id).sum() * truth.voxel_ml >= least_ml


def _mask(folder: Path, name: str) -> Volume:
    return io.read_mask(folder / f"{name}.nii.gz")


def test_a_change_of_the_catalogue_raises_its_version(tmp_path: Path) -> None:
    """Scores of one version are comparable: neither a list nor what a seed draws may change under it."""

    def digest(value: object) -> str:
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]

    lists = digest([dataclasses.asdict(spec) for spec in EVERY])
    make_case(LISTS["quick"][1], tmp_path / "case", None)
    meta = json.loads((tmp_path / "case" / "meta.json").read_text(encoding="utf-8"))
    lesions = [{k: v for k, v in lesion.items() if k != "added_ml"} for lesion in meta["lesions"]]
    drawn = digest([meta["anatomy"], meta["scanner"], lesions])
    assert (VERSION, lists, drawn) == (1, "810f8752dad1ce5e", "cf643fccafe4e6be")


def catalogue_tables() -> str:
    """The lists as Markdown; a changed list is pasted from here into docs/science-phantoms.md."""
    lines = []
    for name, specs in LISTS.items():
        lines += [f"### {name}", "| case | lesions | novelty |", "|---|---|---|"]
        for spec in specs:
            lesions = ", ".join(spec.models) or ("nothing drawn" if spec.kind == "real" else "none")
            lines.append(f"| {spec.name} | {lesions} | {spec.novelty} |")
        lines.append("")
    return "\n".join(lines)


def test_the_documented_lists_are_the_lists() -> None:
    text = (ROOT / "docs" / "science-phantoms.md").read_text(encoding="utf-8")
    _, _, rest = text.partition("<!-- lists -->\n")
    assert rest.partition("<!-- end of lists -->")[0] == catalogue_tables()
