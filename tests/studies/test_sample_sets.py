"""A sample depends on seed, place and lungs alone; what was drawn is kept; held-out patches are those of the scan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from diffseglung.io.nifti import write_nifti
from diffseglung.method import checkpoint
from diffseglung.method.diffusion import cosine_signal
from diffseglung.platform.config import GenerationConfig, IntensityConfig
from diffseglung.platform.errors import GeometryError, InputError
from diffseglung.platform.runtime import Runtime
from diffseglung.volume import Volume
from studies.sample_sets import SAMPLERS, Sampler, Studio, cut_scans
from tests.studies import drawing_toys
from tests.studies.drawing_toys import PATCH

CONFIG = GenerationConfig(n=3, batch_size=2, precision="fp32")
FULL = Sampler("full", "ddpm", 0)


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    model = checkpoint.build(*checkpoint.load(drawing_toys.model_file(tmp_path / "m.safetensors")))
    return Studio(model, Runtime(device=torch.device("cpu")), tmp_path / "samples")


@pytest.fixture
def lungs() -> np.ndarray:
    masks = np.zeros((3, *PATCH.shape), np.float32)
    for i, mask in enumerate(masks):
        mask[:, i : i + 9] = 1
    return masks


@pytest.mark.parametrize("sampler", [FULL, Sampler("dpm", "dpm", 5), Sampler("ddim", "ddim", 5)], ids=lambda s: s.title)
def test_samples_do_not_depend_on_the_batch(
    studio: Studio, lungs: np.ndarray, sampler: Sampler, tmp_path: Path
) -> None:
    drawn = studio.draw(lungs, sampler, CONFIG)
    alone = Studio(studio.model, studio.runtime, tmp_path / "other")
    one = alone.draw(lungs, sampler, GenerationConfig(n=3, batch_size=1, precision="fp32"))
    assert drawn.ct == pytest.approx(one.ct, abs=2e-3)
    assert np.abs(drawn.ct[0] - drawn.ct[1]).mean() > 0.05
    assert drawn.calls == (12 if sampler is FULL else 5)
    assert drawn.seconds > 0


def test_what_was_drawn_is_read_and_only_the_rest_is_drawn(studio: Studio, lungs: np.ndarray) -> None:
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    studio.model.network.register_forward_pre_hook(count)
    two = studio.draw(lungs[:2], FULL, CONFIG)
    assert calls == 12
    three = studio.draw(lungs, FULL, CONFIG)
    assert calls == 24
    assert np.array_equal(three.ct[:2], two.ct)
    studio.draw(lungs, FULL, CONFIG)
    assert calls == 24
    studio.draw(np.flip(lungs, 1).copy(), FULL, CONFIG)  # the same lungs, as they are symmetric along this axis
    assert calls == 24
    studio.draw(lungs, FULL, GenerationConfig(n=3, batch_size=3, precision="fp32", seed=1))
    assert calls == 36
    other = checkpoint.build(*checkpoint.load(drawing_toys.model_file(studio.store.parent / "o.safetensors", seed=1)))
    assert Studio(other, studio.runtime, studio.store).weights != studio.weights


def test_a_damaged_sample_is_named(studio: Studio, lungs: np.ndarray) -> None:
    studio.draw(lungs[:1], FULL, CONFIG)
    (file,) = studio.store.iterdir()
    file.write_bytes(b"half")
    with pytest.raises(InputError, match=file.name):
        studio.draw(lungs[:1], FULL, CONFIG)


def test_less_noise_leaves_more_of_the_patch(studio: Studio, lungs: np.ndarray) -> None:
    clean = np.random.default_rng(0).uniform(-0.9, 0.9, lungs.shape).astype(np.float32)
    error = []
    for level in (0.25, 0.75):
        noisy, done = studio.repaired(clean, lungs, level, 2, batch_size=2, seed=0)
        assert noisy.shape == done.shape == clean.shape
        error.append(np.abs(noisy - clean).mean())
    assert error[0] < error[1]


def test_samplers_walk_as_many_steps_as_they_say() -> None:
    signal = cosine_signal(1000)
    for sampler in SAMPLERS:
        assert len(sampler.steps(signal)) == (sampler.calls or 1000)
    assert len(SAMPLERS[-1].steps(cosine_signal(7))) == 7


def test_held_out_patches_hold_the_scan_and_further_ones_change_none(tmp_path: Path) -> None:
    scans = [drawing_toys.scan(tmp_path, "a", 1), drawing_toys.scan(tmp_path, "b", 2)]
    few, many = (cut_scans(scans, n, PATCH, IntensityConfig(), seed=0) for n in (3, 6))
    assert np.array_equal(many.ct[:3], few.ct)
    assert many.scans == ("a", "b") * 3
    assert many.lungs.mean((1, 2, 3)).min() >= PATCH.min_lung_fraction
    inside = (many.ct[many.lungs > 0] + 1) * 700 - 1000
    assert inside.mean() == pytest.approx(-820, abs=15)
    assert inside.std() > 40


def test_lungs_of_another_grid_and_no_scan_are_refused(tmp_path: Path) -> None:
    ct, lungs = drawing_toys.scan(tmp_path)
    write_nifti(lungs, Volume(np.ones((5, 5, 5), np.uint8), np.eye(4)))
    with pytest.raises(GeometryError, match="grid"):
        cut_scans([(ct, lungs)], 1, PATCH, IntensityConfig(), seed=0)
    with pytest.raises(InputError, match="held-out"):
        cut_scans([], 1, PATCH, IntensityConfig(), seed=0)
