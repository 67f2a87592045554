"""Resume state: complete or not there, never pickled, and only for the same run."""

from __future__ import annotations

import pickle

import pytest
import torch

from diffseglung.errors import CheckpointError, ConfigError
from diffseglung.training.state import State, check_unchanged, load_state, save_state

SETTINGS = {"train": {"lr": 1e-4, "iterations": 10, "lr_schedule": "constant"}, "patches": {"digest": "abc"}}


def state() -> State:
    return State({"a": torch.arange(3.0)}, {"updates": 2}, {"state": {}}, 7, SETTINGS)


def test_what_is_saved_comes_back(tmp_path):
    save_state(tmp_path / "last.pt", state())
    back = load_state(tmp_path / "last.pt")
    assert torch.equal(back.weights["a"], torch.arange(3.0))
    assert (back.iteration, back.settings) == (7, SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_a_pickle_is_refused_and_does_not_run(tmp_path):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    (tmp_path / "last.pt").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(CheckpointError, match="not the state of a training run"):
        load_state(tmp_path / "last.pt")
    assert not (tmp_path / "ran").exists()


def test_a_half_written_file_is_an_error_that_names_it(tmp_path):
    save_state(tmp_path / "last.pt", state())
    (tmp_path / "last.pt").write_bytes((tmp_path / "last.pt").read_bytes()[:200])
    with pytest.raises(CheckpointError, match=r"last\.pt"):
        load_state(tmp_path / "last.pt")


def test_a_changed_setting_is_named():
    with pytest.raises(ConfigError, match=r"lr is 0\.1"):
        check_unchanged(SETTINGS, {**SETTINGS, "train": {**SETTINGS["train"], "lr": 0.1}})
    with pytest.raises(ConfigError, match="digest"):
        check_unchanged(SETTINGS, {**SETTINGS, "patches": {"digest": "other"}})


def test_another_stage_is_another_run():
    with pytest.raises(ConfigError, match="distill"):
        check_unchanged(SETTINGS, {**SETTINGS, "distill": {}})


def test_a_run_may_be_made_longer_or_shorter():
    check_unchanged(SETTINGS, {**SETTINGS, "train": {**SETTINGS["train"], "iterations": 99}})


def test_settings_of_a_newer_version_do_not_stop_an_old_run():
    check_unchanged(SETTINGS, {**SETTINGS, "train": {**SETTINGS["train"], "brand_new": 1}})
