"""Tasks: a name of its own for each scan, and a mark that tells whether a result is of it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffseglung.cohort.plan import OWN_NAMES, Order, alone, is_finished, plan
from diffseglung.lungs import external_tools
from diffseglung.output import Products
from diffseglung.output.record import load
from diffseglung.platform.config import SegmentConfig
from diffseglung.platform.errors import ConfigError, InputError

NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20
)


def an_order(output: Path, **more: object) -> Order:
    return dataclasses.replace(Order(output=output, config=SegmentConfig()), **more)


def finish(output: Path, name: str, mark: dict) -> None:
    (output / name).mkdir(parents=True, exist_ok=True)
    (output / name / "run.json").write_text(json.dumps({"task": mark}))


@settings(max_examples=40, deadline=None)
@given(names=st.lists(NAMES, min_size=1, max_size=6, unique=True))
def test_folders_are_unique_and_stay_inside_the_output(
    names: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, output = tmp_path_factory.mktemp("in"), tmp_path_factory.mktemp("out")
    made = 0
    for i, name in enumerate(names):
        place = folder / f"p{i % 2}"
        place.mkdir(exist_ok=True)
        try:
            (place / f"{name}.nii.gz").write_bytes(b"x")
        except OSError:
            continue  # the file system does not take this name
        made += not name.startswith(".")
    if not made:
        return
    try:
        tasks = plan(folder, an_order(output))
    except InputError:
        return  # all of them have names of masks
    found = [task.name.lower() for task in tasks]
    assert len(set(found)) == len(found)
    assert not set(found) & set(OWN_NAMES)
    assert all((output / task.name).resolve().parent == output.resolve() for task in tasks)


def test_a_result_counts_only_for_the_same_file_settings_model_and_version(tmp_path: Path) -> None:
    scan, output = tmp_path / "in" / "a.nii.gz", tmp_path / "out"
    scan.parent.mkdir()
    scan.write_bytes(b"one")
    (task,) = plan(scan.parent, an_order(output))
    assert not is_finished(task, output)
    finish(output, task.name, task.mark)
    assert is_finished(task, output)
    for order in (
        an_order(output, config=SegmentConfig(fusion=False)),
        an_order(output, model_hash="other"),
        an_order(output, products=Products(probabilities=True)),
    ):
        assert not is_finished(plan(scan.parent, order)[0], output)
    scan.write_bytes(b"another")
    assert not is_finished(plan(scan.parent, an_order(output))[0], output)


def test_a_result_counts_only_for_the_same_finder_of_lungs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan, output = tmp_path / "in" / "a.nii.gz", tmp_path / "out"
    scan.parent.mkdir()
    scan.write_bytes(b"one")
    order = an_order(output, config=SegmentConfig(lungs="lungmask"))
    assert plan(scan.parent, order)[0].mark != plan(scan.parent, an_order(output))[0].mark
    (task,) = plan(scan.parent, order)
    finish(output, task.name, task.mark)
    assert is_finished(plan(scan.parent, order)[0], output)
    monkeypatch.setattr(external_tools, "lung_tool_version", lambda name: "another")
    assert not is_finished(plan(scan.parent, order)[0], output)


def test_a_mark_holds_no_path(tmp_path: Path) -> None:
    scan = tmp_path / "MILLER_JOHN" / "a.nii.gz"
    scan.parent.mkdir()
    scan.write_bytes(b"one")
    (task,) = plan(scan.parent, an_order(tmp_path / "out"))
    assert "MILLER" not in json.dumps(task.mark)


@pytest.mark.parametrize("content", ["", "{", "[1]", "null", "\xff"])
def test_a_record_that_cannot_be_read_is_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(content, encoding="latin-1")
    assert load(tmp_path) is None


def test_results_below_the_input_are_not_taken_for_scans(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(b"one")
    output = tmp_path / "results"
    (output / "a").mkdir(parents=True)
    (output / "a" / "label_map.nii.gz").write_bytes(b"two")
    assert [task.name for task in plan(tmp_path, an_order(output))] == ["a"]


def test_one_run_at_a_time_and_no_half_made_rest(tmp_path: Path) -> None:
    rest = tmp_path / ".000000-1-0123abcd.part.a"  # of a process of another machine
    rest.mkdir()
    (rest / "label_map.nii.gz").write_bytes(b"half")
    with alone(tmp_path):
        assert not rest.exists()
        with pytest.raises(ConfigError, match="another run"), alone(tmp_path):
            pass
    with alone(tmp_path):  # free again
        pass
    assert list(tmp_path.iterdir()) == []
