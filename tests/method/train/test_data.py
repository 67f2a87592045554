"""What an iteration sees depends on the seed and its number, and on nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from diffseglung.method.train.data import Draws, Patches, open_patches, prefetch
from diffseglung.platform.config import DistillConfig, TrainConfig
from diffseglung.platform.errors import InputError


def draws(patches: Patches, *, batch: int, world: int = 1, rank: int = 0, accumulate: int = 1, seed: int = 0) -> Draws:
    config = TrainConfig(batch_size=batch, accumulate=accumulate, seed=seed)
    return Draws(patches, config, 100, patches.teacher(DistillConfig()), rank, world)


def joined(parts) -> tuple[torch.Tensor, ...]:
    return tuple(
        torch.cat([getattr(part, name) for part in parts]) for name in ("clean", "lung", "noise", "step", "teacher")
    )


def test_an_iteration_is_the_same_however_it_is_divided(patches):
    whole = joined([draws(patches, batch=4).batch(3)])
    ranks = joined([draws(patches, batch=2, world=2, rank=r).batch(3) for r in range(2)])
    micro = joined([draws(patches, batch=2, accumulate=2).batch(3, m) for m in range(2)])
    for a, b, c in zip(whole, ranks, micro, strict=True):
        assert torch.equal(a.nan_to_num(), b.nan_to_num())
        assert torch.equal(a.nan_to_num(), c.nan_to_num())


def test_iterations_and_seeds_differ(patches):
    first = draws(patches, batch=2).batch(1)
    assert not torch.equal(first.noise, draws(patches, batch=2).batch(2).noise)
    assert not torch.equal(first.noise, draws(patches, batch=2, seed=1).batch(1).noise)


def test_every_patch_comes_once_an_epoch(patches):
    source = draws(patches, batch=2)
    for epoch in range(2):
        seen = [source.index(epoch * 3 + i, place) for i in range(1, 4) for place in range(2)]
        assert sorted(seen) == list(range(len(patches)))


def test_noise_levels_cover_the_chain_evenly_and_stay_in_it(patches):
    source = draws(patches, batch=8)
    steps = torch.stack([source.levels(i) for i in range(1, 200)])
    assert int(steps.min()) >= 1
    assert int(steps.max()) <= 100
    quarters = ((steps - 1) * 4 // 100).sort(1).values
    assert torch.equal(quarters.unique(dim=0), torch.tensor([[0, 0, 1, 1, 2, 2, 3, 3]]))
    assert abs(float(steps.float().mean()) - 50.5) < 1


def test_the_teacher_is_flipped_with_its_patch(patches):
    """Cells without lung are unknown to the teacher: the two must agree after every flip."""
    source = draws(patches, batch=6)
    for iteration in range(1, 5):
        batch = source.batch(iteration)
        share = torch.nn.functional.avg_pool3d(batch.lung, 4)
        known = torch.isfinite(batch.teacher).all(1, keepdim=True)
        assert known[share > 0.99].all()


def test_flips_happen_and_keep_values(patches):
    source = draws(patches, batch=6)
    batch, changed = source.batch(1), 0
    for i in range(6):
        raw = torch.from_numpy(patches.ct[source.index(1, i)].astype(np.float32))
        assert torch.equal(batch.clean[i].flatten().sort().values, raw.flatten().sort().values)
        changed += not torch.equal(batch.clean[i, 0], raw)
    assert 1 <= changed <= 6


def test_without_stored_descriptors_the_teacher_is_none(patches):
    bare = Patches(patches.folder, patches.ct, patches.mask, patches.patient_ids, None, None, patches.info)
    assert draws(bare, batch=2).batch(1).teacher is None
    assert bare.teacher(DistillConfig(loss="published")) is None


def test_stored_descriptors_serve_the_settings_that_they_were_made_with(patches):
    assert patches.teacher(DistillConfig(grid_stride=4, window=8)) is patches.dense
    for other in ({"window": 6}, {"grid_stride": 2}, {"grid_stride": 8}):
        assert patches.teacher(DistillConfig(**other)) is None
        assert patches.teacher(DistillConfig(**other, loss="published")) is patches.whole


@pytest.mark.parametrize("told", [None, {"stride": 4, "window": 8, "descriptors": ["hu_mean"]}])
def test_stored_descriptors_of_which_nobody_tells_what_they_are_serve_nothing(patches, told):
    foreign = replace(patches, info={**patches.info, "teacher": told})
    assert foreign.teacher(DistillConfig()) is foreign.teacher(DistillConfig(loss="published")) is None


@pytest.mark.parametrize("loss", ["local", "published"])
def test_stored_descriptors_on_another_grid_than_they_say_are_refused(patches, loss):
    swapped = replace(patches, dense=patches.whole, whole=patches.dense)
    with pytest.raises(InputError, match="does not fit the patches"):
        swapped.teacher(DistillConfig(loss=loss))


def test_a_folder_without_patches_is_an_error_with_the_way_out(tmp_path):
    with pytest.raises(InputError, match="precomputed patches") as caught:
        open_patches(tmp_path)
    assert "precompute" in caught.value.remedy


def test_arrays_of_two_shapes_are_refused(tmp_path):
    np.save(tmp_path / "ct.npy", np.zeros((2, 4, 4, 4), np.float16))
    np.save(tmp_path / "mask.npy", np.zeros((2, 4, 4, 5), np.uint8))
    with pytest.raises(InputError, match="one shape"):
        open_patches(tmp_path)


def test_pickled_arrays_are_refused(tmp_path):
    np.save(tmp_path / "ct.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "mask.npy", np.zeros((1, 4, 4, 4), np.uint8))
    with pytest.raises(InputError, match="cannot read"):
        open_patches(tmp_path)


def test_prefetch_keeps_order_and_ends():
    assert list(prefetch(range(20), depth=2)) == list(range(20))


def test_an_error_ahead_surfaces_where_the_item_is_asked_for():
    def items():
        yield 1
        raise ValueError("broken patch")

    source = prefetch(items())
    assert next(source) == 1
    with pytest.raises(ValueError, match="broken patch"):
        next(source)


def test_prefetch_can_be_closed_early():
    source = prefetch(iter(int, 1), depth=2)
    assert next(source) == 0
    source.close()


@pytest.mark.parametrize("text", ["[1]", '{"teacher": 7}', '{"teacher": ["stride"]}', "{"])
def test_a_record_that_is_none_is_told(text, tmp_path):
    for name in ("ct", "mask"):
        np.save(tmp_path / f"{name}.npy", np.zeros((2, 4, 4, 4), np.float16))
    (tmp_path / "patches.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"patches\.json") as error:
        open_patches(tmp_path)
    assert "precompute" in error.value.remedy
