"""The journal can be read by anyone, and continues where the saved state is."""

from __future__ import annotations

import json
import math
import os

import pytest

from diffseglung.method.train.journal import Journal, read, smooth
from diffseglung.platform.errors import ConfigError, TrainingError


def line(iteration: int, **more: float) -> dict[str, float | int]:
    return {"iteration": iteration, "diffusion": 1 / iteration, "seconds": 2.0 * iteration, **more}


def test_lines_are_json_and_unknown_values_are_null(tmp_path):
    journal = Journal(tmp_path)
    journal.write(line(1, diffusion_q1=math.nan))
    journal.close()
    assert json.loads((tmp_path / "journal.jsonl").read_text(encoding="utf-8")) == {
        "iteration": 1,
        "diffusion": 1.0,
        "seconds": 2.0,
        "diffusion_q1": None,
    }


def test_a_folder_that_is_no_utf8_is_refused_before_anything_is_written(tmp_path):
    folder = tmp_path / os.fsdecode(b"M\xfcller")
    with pytest.raises(ConfigError, match="not UTF-8"):
        Journal(folder)
    assert not folder.exists()


def test_lines_of_lost_updates_are_dropped_on_resume(tmp_path):
    first = Journal(tmp_path)
    for i in (10, 20, 30):
        first.write(line(i))
    first.close()
    second = Journal(tmp_path, start=20)
    second.close()
    assert [entry["iteration"] for entry in read(tmp_path / "journal.jsonl")] == [10, 20]
    assert second.seconds == 40


def test_a_fresh_run_begins_a_fresh_journal(tmp_path):
    for _ in range(2):
        journal = Journal(tmp_path)
        journal.write(line(5))
        journal.close()
    assert len(read(tmp_path / "journal.jsonl")) == 1


def test_a_last_line_cut_by_a_kill_is_left_out(tmp_path):
    (tmp_path / "journal.jsonl").write_text('{"iteration": 1}\n{"iterat')
    assert read(tmp_path / "journal.jsonl") == [{"iteration": 1}]


def test_damage_in_the_middle_is_an_error(tmp_path):
    (tmp_path / "journal.jsonl").write_text('{"iteration": 1\n{"iteration": 2}\n')
    with pytest.raises(TrainingError, match="damaged"):
        read(tmp_path / "journal.jsonl")


def test_the_curve_and_the_events_are_written(tmp_path):
    journal = Journal(tmp_path)
    assert journal.draw() is None
    for i in range(1, 6):
        journal.write(line(i, contrastive=2.0))
    assert journal.draw() == tmp_path / "curve.png"
    journal.settings({"train": {"lr": 1e-4}})
    journal.close()
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"
    assert json.loads((tmp_path / "settings.json").read_text(encoding="utf-8")) == {"train": {"lr": 1e-4}}
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_smoothing_keeps_constants_and_skips_the_unknown():
    assert smooth([2.0, math.nan, 2.0], share=0.9) == [2.0, 2.0, 2.0]
