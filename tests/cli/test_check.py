"""The five tests of `check` pass here, and each of them can fail."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import diffseglung.method.distillation
import diffseglung.method.radiomics.descriptor
import diffseglung.method.samplers
import diffseglung.method.train.objective
import diffseglung.training.precompute
from diffseglung.cli import check, run_command


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
        raise check.CheckFailed("two is not three", remedy="count again")

    quick = dict.fromkeys(check.TESTS, lambda folder, device: "fine")
    monkeypatch.setattr(check, "TESTS", quick | {"sampler": broken})
    assert run_command("check", []) == 1
    out = capsys.readouterr().out
    assert "TEST 3 FAILED: sampler: CheckFailed: two is not three" in out
    assert out.splitlines()[-1] == "1 OF 5 TESTS FAILED: sampler"
    assert "test 5 passed" in out


def test_wrong_hu_are_found(monkeypatch, fresh):
    real = diffseglung.training.precompute.normalise
    monkeypatch.setattr(diffseglung.training.precompute, "normalise", lambda hu, config: real(hu + 40, config))
    with pytest.raises(check.CheckFailed, match="HU"):
        check.check_data(fresh, "cpu")


def test_a_network_that_cannot_learn_is_found(monkeypatch, fresh):
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: None)
    with pytest.raises(check.CheckFailed, match="40 updates"):
        check.check_network(fresh, "cpu")
    with pytest.raises(check.CheckFailed, match="did not move"):
        check.check_distillation(fresh, "cpu")


def test_a_wrong_sampler_is_found(monkeypatch, fresh):
    real = diffseglung.method.samplers.dpm_solver
    monkeypatch.setattr(diffseglung.method.samplers, "dpm_solver", lambda *args: 1.1 * real(*args))
    with pytest.raises(check.CheckFailed, match=r"DPM-Solver\+\+"):
        check.check_sampler(fresh, "cpu")


def test_a_wrong_descriptor_is_found(monkeypatch, fresh):
    real = diffseglung.method.radiomics.descriptor.describe_batch

    def off(hu, lung):
        values = real(hu, lung)
        values[:, 7] *= 1.05
        return values

    monkeypatch.setattr(diffseglung.method.radiomics.descriptor, "describe_batch", off)
    with pytest.raises(check.CheckFailed, match="glcm_homogeneity"):
        check.check_radiomics(fresh, "cpu")


def test_a_wrong_warm_up_is_found(monkeypatch, fresh):
    monkeypatch.setattr(diffseglung.method.distillation, "warmup", lambda iteration, config: 0.5)
    with pytest.raises(check.CheckFailed, match="warm-up"):
        check.check_distillation(fresh, "cpu")


def test_the_toy_chest_is_lung_in_water():
    hu, inside = check.toy_chest()
    assert np.median(hu[inside > 0]) == pytest.approx(-840, abs=5)
    assert (hu[inside == 0] == 30).all()
