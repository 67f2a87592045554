"""The five self-tests pass here, and each of them can fail; `check` and `info --training` run them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import diffseglung.method.distillation
import diffseglung.method.radiomics.descriptor
import diffseglung.method.samplers
import diffseglung.method.train.objective
import diffseglung.training.precompute
from diffseglung.cli import main, run_command, self_tests


@pytest.fixture
def fresh(tmp_path):
    """A folder for one of the tests."""
    return tmp_path


def test_all_five_pass_and_say_so(capsys):
    assert run_command("check", ["-d", "cpu"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == "ALL 5 TESTS PASSED"
    assert len(out) == 6


def test_one_failure_is_named_and_the_others_still_run(monkeypatch, capsys):
    def broken(folder, device):
        raise self_tests.CheckFailed("two is not three", remedy="count again")

    quick = dict.fromkeys(self_tests.TESTS, lambda folder, device: "fine")
    monkeypatch.setattr(self_tests, "TESTS", quick | {"sampler": broken})
    assert run_command("check", []) == 1
    out = capsys.readouterr().out
    assert "TEST 3 FAILED: sampler: CheckFailed: two is not three" in out
    assert out.splitlines()[-1] == "1 OF 5 TESTS FAILED: sampler"
    assert "test 5 passed" in out


def test_info_runs_them_too(monkeypatch, capsys):
    def broken(folder, device):
        raise self_tests.CheckFailed("two is not three", remedy="count again")

    monkeypatch.setattr(self_tests, "TESTS", {"sampler": broken, "radiomics": lambda folder, device: "fine"})
    assert main(["info", "--training", "--no-self-test"]) == 1
    out = capsys.readouterr().out.splitlines()
    assert "bad   sampler          CheckFailed: two is not three (try: count again)" in out
    assert "good  radiomics        fine" in out
    assert out[-1] == "not ready: sampler"


def test_the_former_command_says_its_new_name(monkeypatch, capsys):
    monkeypatch.setattr(self_tests, "TESTS", {"one": lambda folder, device: "fine"})
    assert main(["check"]) == 0
    told = capsys.readouterr()
    assert told.out.splitlines()[-1] == "ALL 1 TESTS PASSED"
    assert told.err == "note: `diffseglung check` is now `diffseglung info --training`\n"


def test_wrong_hu_are_found(monkeypatch, fresh):
    real = diffseglung.training.precompute.normalise
    monkeypatch.setattr(diffseglung.training.precompute, "normalise", lambda hu, config: real(hu + 40, config))
    with pytest.raises(self_tests.CheckFailed, match="HU"):
        self_tests.check_data(fresh, "cpu")


def test_a_network_that_cannot_learn_is_found(monkeypatch, fresh):
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: None)
    with pytest.raises(self_tests.CheckFailed, match="40 updates"):
        self_tests.check_network(fresh, "cpu")
    with pytest.raises(self_tests.CheckFailed, match="did not move"):
        self_tests.check_distillation(fresh, "cpu")


def test_a_wrong_sampler_is_found(monkeypatch, fresh):
    real = diffseglung.method.samplers.dpm_solver
    monkeypatch.setattr(diffseglung.method.samplers, "dpm_solver", lambda *args: 1.1 * real(*args))
    with pytest.raises(self_tests.CheckFailed, match=r"DPM-Solver\+\+"):
        self_tests.check_sampler(fresh, "cpu")


def test_a_wrong_descriptor_is_found(monkeypatch, fresh):
    real = diffseglung.method.radiomics.descriptor.describe_batch

    def off(hu, lung):
        values = real(hu, lung)
        values[:, 7] *= 1.05
        return values

    monkeypatch.setattr(diffseglung.method.radiomics.descriptor, "describe_batch", off)
    with pytest.raises(self_tests.CheckFailed, match="glcm_homogeneity"):
        self_tests.check_radiomics(fresh, "cpu")


def test_a_wrong_warm_up_is_found(monkeypatch, fresh):
    monkeypatch.setattr(diffseglung.method.distillation, "warmup", lambda iteration, config: 0.5)
    with pytest.raises(self_tests.CheckFailed, match="warm-up"):
        self_tests.check_distillation(fresh, "cpu")


def test_the_toy_chest_is_lung_in_water():
    hu, inside = self_tests.toy_chest()
    assert np.median(hu[inside > 0]) == pytest.approx(-840, abs=5)
    assert (hu[inside == 0] == 30).all()
