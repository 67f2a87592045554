"""Resume state: complete or not there, never pickled, and only for the same run."""

from __future__ import annotations

import pickle

import pytest
import torch

from diffseglung.method.ema import Ema
from diffseglung.method.train.loop import channels_last
from diffseglung.method.train.state import State, check_unchanged, load_state, restore, save_state
from diffseglung.platform.errors import CheckpointError, ConfigError

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


class Trained:
    """A kernel in one memory layout and type, a bias, their optimiser and average."""

    def __init__(self, *, last: bool, fused: bool, dtype: torch.dtype = torch.float32) -> None:
        self.module = torch.nn.Conv3d(3, 4, (3, 2, 3), dtype=dtype)
        for value in self.module.parameters():
            torch.nn.init.normal_(value, generator=torch.Generator().manual_seed(value.ndim))
        if last:
            channels_last(self.module)
        self.optimiser = torch.optim.Adam(self.module.parameters(), lr=0.1, fused=fused)
        self.ema = Ema(self.module, 0.9)

    def update(self, seed: int) -> None:
        for value in self.module.parameters():
            drawn = torch.randn(value.shape, generator=torch.Generator().manual_seed(seed))
            value.grad = torch.empty_like(value).copy_(drawn)
        self.optimiser.step()
        self.ema.update(self.module)

    def save(self, path) -> None:
        parts = {"weights": self.module.state_dict(), "ema": self.ema.state(), "optimiser": self.optimiser.state_dict()}
        save_state(path, State(**parts, iteration=1, settings=SETTINGS))


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("goes_on", [False, True])
@pytest.mark.parametrize("fused", [False, True])
def test_training_goes_on_in_another_memory_layout_as_if_it_were_the_same(tmp_path, begun, goes_on, fused):
    """Kinds of device differ in the layout of kernels, and in whether the update is fused."""
    first, second = Trained(last=begun, fused=True), Trained(last=goes_on, fused=fused)
    first.update(1)
    first.save(tmp_path / "last.pt")
    assert restore(tmp_path / "last.pt", SETTINGS, second.module, second.optimiser, second.ema) == 1
    assert second.optimiser.param_groups[0]["fused"] == fused
    for weight, kept in second.optimiser.state.items():
        assert weight.stride() == kept["exp_avg"].stride() == kept["exp_avg_sq"].stride()
    for each in (first, second):
        each.update(2)
    for one, two in zip(first.module.parameters(), second.module.parameters(), strict=True):
        torch.testing.assert_close(one, two)
    for name, value in first.ema.weights.items():
        torch.testing.assert_close(second.ema.weights[name], value)


def test_what_is_loaded_takes_the_type_of_the_weights(tmp_path):
    first = Trained(last=True, fused=False, dtype=torch.float64)
    second = Trained(last=False, fused=True)
    first.update(1)
    first.save(tmp_path / "last.pt")
    restore(tmp_path / "last.pt", SETTINGS, second.module, second.optimiser, second.ema)
    for weight, kept in second.optimiser.state.items():
        assert weight.dtype == kept["exp_avg"].dtype == kept["exp_avg_sq"].dtype == torch.float32
    for each in (first, second):
        each.update(2)
    for one, two in zip(first.module.parameters(), second.module.parameters(), strict=True):
        torch.testing.assert_close(one.float(), two, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("lost", ["moments", "one weight"])
def test_an_optimiser_that_knows_less_than_the_weights_is_refused(tmp_path, lost):
    """Adam would begin anew for what is missing, without a word."""
    first = Trained(last=False, fused=True)
    first.update(1)
    saved = first.optimiser.state_dict()
    kept = {} if lost == "moments" else {0: saved["state"][0]}
    parts = {"weights": first.module.state_dict(), "ema": first.ema.state(), "optimiser": {**saved, "state": kept}}
    save_state(tmp_path / "last.pt", State(**parts, iteration=1, settings=SETTINGS))
    with pytest.raises(CheckpointError, match="another network"):
        restore(tmp_path / "last.pt", SETTINGS, first.module, first.optimiser, first.ema)
