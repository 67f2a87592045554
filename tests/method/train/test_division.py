"""An update is the same however its batch is divided into micro-batches and processes: losses and every gradient."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from diffseglung.method.card import ModelCard
from diffseglung.method.train.data import Draws, open_patches
from diffseglung.method.train.journal import read
from diffseglung.method.train.loop import Run, Trainer
from diffseglung.method.train.objective import DistillObjective, fit_standardiser
from diffseglung.method.unet import UNet
from diffseglung.platform.config import UNETS, DiffusionConfig, DistillConfig, IntensityConfig, TrainConfig
from diffseglung.platform.runtime import Runtime

GLOBAL_BATCH = 8
KINDS = {
    "local": DistillConfig(warmup_start=0, warmup_end=0, positions=24),
    "published": DistillConfig(loss="published", warmup_start=0, warmup_end=0),
    "few": DistillConfig(warmup_start=0, warmup_end=0, max_level=0.1),
    "none": DistillConfig(warmup_start=0, warmup_end=0, max_level=0.0),
}
"""few: positions of one patch meet, so that most micro-batches and one process have none of them."""


def update(
    patches: Path, folder: Path, kind: str, *, accumulate: int = 1, stored: bool = True, runtime: Runtime
) -> None:
    """One update of stage 2; leaves its journal line and gradients in `folder`."""
    torch.set_num_threads(1)
    found, distill = open_patches(patches), KINDS[kind]
    config = TrainConfig(
        iterations=1, batch_size=GLOBAL_BATCH // accumulate // runtime.world_size, accumulate=accumulate, clip_norm=0,
        sample_every=0, log_every=1, lr=1e-3,
    )  # fmt: skip
    torch.manual_seed(0)
    network = UNet(UNETS["tiny"])
    torch.nn.init.normal_(network.leave.weight, std=0.1)  # zero as it begins, which hides the network from its loss
    objective = DistillObjective(network, DiffusionConfig(), distill=distill, intensity=IntensityConfig(), seed=0)
    fit_standardiser(objective, found)
    teacher = found.teacher(distill) if stored else None
    draws = Draws.of(found, config, steps=1000, runtime=runtime, teacher=teacher)
    run = Run(
        folder=folder, config=config, runtime=runtime, name="ddpm_distill.pt", card=ModelCard(unet=UNETS["tiny"]),
        settings={},
    )  # fmt: skip
    trainer = Trainer(objective, draws, run)
    trainer.fit()
    torch.save({name: p.grad for name, p in objective.named_parameters()}, folder / f"gradients{runtime.rank}.pt")


PAIRS = [("local", 1), ("local", 2), ("published", 1), ("published", 4), ("few", 1), ("none", 2)]


def process(rank: int, folder: Path, patches: Path) -> None:
    """One of two processes: the updates of `PAIRS`, each in a folder of its own."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    runtime = Runtime(device=torch.device("cpu"), rank=rank, world_size=2)
    for kind, accumulate in PAIRS:
        update(patches, folder / f"{kind}{accumulate}", kind, accumulate=accumulate, runtime=runtime)
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(patches, tmp_path_factory) -> Path:
    """Folder of the updates that two processes made together."""
    folder = tmp_path_factory.mktemp("two")
    for kind, accumulate in PAIRS:
        (folder / f"{kind}{accumulate}").mkdir()
    context = multiprocessing.get_context("spawn")
    ranks = [context.Process(target=process, args=(rank, folder, patches.folder)) for rank in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(240)
    assert [rank.exitcode for rank in ranks] == [0, 0]
    return folder


def told(folder: Path, rank: int = 0) -> dict[str, torch.Tensor]:
    line = read(folder / "journal.jsonl")[-1]
    losses = {name: torch.tensor(line[name]) for name in ("diffusion", "contrastive", "grad_norm")}
    return losses | torch.load(folder / f"gradients{rank}.pt", weights_only=True)


def assert_same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(
            found[name], value, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.fixture(scope="module")
def whole(patches, tmp_path_factory) -> dict[str, dict[str, torch.Tensor]]:
    """Losses and gradients of the undivided update, for each kind of contrast."""
    found = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp(kind)
        update(patches.folder, folder, kind, runtime=Runtime(device=torch.device("cpu")))
        found[kind] = told(folder)
    return found


def test_the_undivided_update_has_a_contrast_to_be_kept(whole):
    assert whole["local"]["contrastive"] > 0.5
    assert whole["published"]["contrastive"] > 0.5
    assert whole["few"]["contrastive"] > 0.1
    assert whole["none"]["contrastive"] == 0
    assert whole["local"]["head.leave.weight"].abs().max() > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("accumulate", [2, 4, 8])
def test_micro_batches_do_not_change_an_update(patches, tmp_path, whole, kind, accumulate):
    update(patches.folder, tmp_path, kind, accumulate=accumulate, runtime=Runtime(device=torch.device("cpu")))
    assert_same(told(tmp_path), whole[kind])


@pytest.mark.parametrize(("kind", "accumulate"), PAIRS)
@pytest.mark.parametrize("rank", [0, 1])
def test_processes_do_not_change_an_update(two_processes, whole, kind, accumulate, rank):
    assert_same(told(two_processes / f"{kind}{accumulate}", rank), whole[kind])


def test_descriptors_made_on_the_way_do_not_change_the_law(patches, tmp_path):
    for name, accumulate in (("one", 1), ("four", 4)):
        (tmp_path / name).mkdir()
        runtime = Runtime(device=torch.device("cpu"))
        update(patches.folder, tmp_path / name, "local", accumulate=accumulate, stored=False, runtime=runtime)
    assert_same(told(tmp_path / "four"), told(tmp_path / "one"))
