"""Precomputed patches: true HU, the same whatever the workers, restartable, never half a folder."""

from __future__ import annotations

import json

import numpy as np
import pytest

import diffseglung.training.precompute as module
from diffseglung.method.train.data import open_patches
from diffseglung.platform.config import PatchConfig
from diffseglung.platform.errors import InputError
from diffseglung.training.precompute import PatchJob, case_patches, patch_settings, precompute
from tests.toys import JOB, SHAPE, toy_cases, toy_volumes


def test_patches_are_pieces_of_their_case(patches):
    assert patches.ct.shape == (6, *SHAPE)
    assert list(patches.patient_ids) == ["toy__0"] * 3 + ["toy__1"] * 3
    hu, _ = toy_volumes(1)
    windows = np.lib.stride_tricks.sliding_window_view(np.clip((hu + 1000) / 700 - 1, -1, 1), SHAPE).reshape(-1, *SHAPE)
    gap = abs(windows - patches.ct[4].astype(np.float32)).max(axis=(1, 2, 3)).min()
    assert gap * 700 < 0.5


def test_settings_and_cases_are_written_down(patches):
    patch, intensity = patch_settings(patches)
    assert (patch.shape, patch.spacing_mm) == (SHAPE, 0.0)
    assert (intensity.low_hu, intensity.high_hu) == (-1000, 400)
    assert patches.info["cases"] == ["toy__0", "toy__1"]


def test_resampling_brings_patches_to_the_wanted_spacing(tmp_path):
    path = toy_cases(tmp_path, 1)[0]
    fine, _ = case_patches(path, PatchJob(patch=PatchConfig(shape=SHAPE, patches_per_patient=2, spacing_mm=0.75)))
    coarse, _ = case_patches(path, PatchJob(patch=PatchConfig(shape=SHAPE, patches_per_patient=2, spacing_mm=1.5)))
    assert np.isfinite(fine).all()
    assert abs(np.diff(fine)).mean() < 0.7 * abs(np.diff(coarse)).mean()


def test_the_number_of_workers_does_not_matter(patches, tmp_path):
    twice = open_patches(precompute(toy_cases(tmp_path / "npz"), tmp_path / "out", JOB, workers=2))
    assert np.array_equal(twice.ct, patches.ct)
    assert np.array_equal(twice.dense, patches.dense, equal_nan=True)


def test_an_interrupted_run_continues_with_the_missing_cases(patches, tmp_path, monkeypatch):
    cases, seen = toy_cases(tmp_path / "npz"), []
    real = module.write_case_patches

    def fails_on_the_second(path, part, job, index):
        seen.append(index)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return real(path, part, job, index)

    monkeypatch.setattr(module, "write_case_patches", fails_on_the_second)
    with pytest.raises(KeyboardInterrupt):
        precompute(cases, tmp_path / "out", JOB)
    assert not (tmp_path / "out").exists()
    precompute(cases, tmp_path / "out", JOB)
    assert seen == [0, 1, 1]
    assert np.array_equal(open_patches(tmp_path / "out").ct, patches.ct)
    assert not (tmp_path / "out.part").exists()
    assert not (tmp_path / "out" / "done.txt").exists()


def test_other_settings_begin_anew(tmp_path):
    cases = toy_cases(tmp_path / "npz", 1)
    part = tmp_path / "out.part"
    part.mkdir()
    (part / "patches.json").write_text(json.dumps({"format": 0}))
    (part / "done.txt").write_text("0\n")
    precompute(cases, tmp_path / "out", JOB)
    assert open_patches(tmp_path / "out").ct[0].astype(np.float32).std() > 0


def test_a_finished_folder_is_left_as_it_is(patches, tmp_path):
    cases = toy_cases(tmp_path / "npz", 1)
    out = precompute(cases, tmp_path / "out", JOB)
    before = (out / "ct.npy").stat().st_mtime_ns
    assert precompute(cases, out, JOB) == out
    assert (out / "ct.npy").stat().st_mtime_ns == before


def test_a_folder_of_something_else_is_not_overwritten(tmp_path):
    cases = toy_cases(tmp_path / "npz", 1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="holds other files"):
        precompute(cases, tmp_path / "out", JOB)


def test_a_case_without_lung_is_named(tmp_path):
    path = tmp_path / "toy__bad.npz"
    np.savez(path, ct=np.zeros((10, 20, 20), np.float32), mask=np.zeros((10, 20, 20), np.uint8))
    with pytest.raises(InputError, match="toy__bad"):
        precompute([path], tmp_path / "out", JOB)


def test_stored_descriptors_are_those_of_the_patch(patches):
    assert patches.dense is not None
    assert patches.whole is not None
    assert patches.dense.shape == (6, 34, 2, 4, 4)
    means = [
        (patches.ct[i].astype(np.float32)[patches.mask[i] > 0].mean() + 1) * 700 - 1000 for i in range(len(patches))
    ]
    np.testing.assert_allclose(patches.whole[:][:, 0], means, atol=0.5)
