"""Training: patches per second of both stages, data loading, cost of the teacher, two processes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from diffseglung.method.card import ModelCard
from diffseglung.method.radiomics.dense import describe_dense
from diffseglung.method.train.data import Draws, Patches, open_patches
from diffseglung.method.train.journal import read
from diffseglung.method.train.loop import Run, Trainer
from diffseglung.method.train.objective import DiffusionObjective, DistillObjective
from diffseglung.method.unet import UNet
from diffseglung.platform.config import UNETS, DiffusionConfig, DistillConfig, IntensityConfig, PatchConfig, TrainConfig
from diffseglung.platform.runtime import Runtime, choose_device, choose_precision
from studies.speed.clock import Cost, Row
from studies.speed.machine import machine
from studies.speed.network import flops

SHAPE, BATCH = (32, 64, 64), 4
LINKS_GB_S, GPU_TFLOPS, GPU_SHARE = 200.0, 400.0, 0.4
"""For the estimate of eight GPUs: all-reduce bandwidth of one node, dense bf16 peak, and the fraction reached."""


@dataclass(frozen=True)
class Load:
    """What is trained: size of the network, stage, patches per batch, and updates."""

    size: str
    stage: int = 1
    updates: int = 6
    batch: int = BATCH

    @property
    def title(self) -> str:
        """Title in tables."""
        return f"{self.size}, stage {self.stage}, batches of {self.batch} patches of {' x '.join(map(str, SHAPE))}"


LOADS = (Load("tiny"), Load("small"), Load("small", stage=2), Load("reference", updates=2, batch=1))


def rows(quick: bool = False) -> list[Row]:
    """A row for each load, the teacher's share of a step, and one and two processes."""
    loads = (Load("tiny", updates=2, batch=2), Load("tiny", stage=2, updates=2, batch=2)) if quick else LOADS
    with synthetic_patches(8) as patches:
        found = [_row(load, patches) for load in loads]
        teacher = _teacher(loads[-1] if quick else Load("small", stage=2), patches, found)
    return [*found, teacher, *([] if quick else [_two_processes(), _eight_gpus()])]


@contextmanager
def synthetic_patches(count: int) -> Iterator[Patches]:
    """A folder of patches as `precompute` writes them: lung-like noise, half of each patch lung."""
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "ct.npy", random.normal(-0.7, 0.1, (count, *SHAPE)).astype(np.float16))
        mask = np.zeros((count, *SHAPE), np.uint8)
        mask[..., : SHAPE[2] // 2] = 1
        np.save(folder / "mask.npy", mask)
        yield open_patches(folder)


def trainer(load: Load, patches: Patches, folder: Path) -> Trainer:
    """A trainer of one stage on this process's device."""
    device = choose_device("auto")
    runtime = Runtime(device=device, precision=choose_precision("auto", device))
    config = TrainConfig(
        iterations=load.updates, batch_size=load.batch, sample_every=0, save_every=load.updates, log_every=1
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network, diffusion = UNet(UNETS[load.size]), DiffusionConfig()
        objective: DiffusionObjective | DistillObjective = DiffusionObjective(network, diffusion)
        if load.stage == 2:
            distill = DistillConfig(warmup_start=0, warmup_end=1)
            objective = DistillObjective(network, diffusion, distill=distill, intensity=IntensityConfig(), seed=0)
    card = ModelCard(
        unet=UNETS[load.size], diffusion=diffusion, patch=PatchConfig(), intensity=IntensityConfig(), stage=load.stage,
        name="benchmark", training={},
    )  # fmt: skip
    run = Run(folder=folder, config=config, runtime=runtime, name="weights.pt", card=card, settings={})
    return Trainer(objective, Draws.of(patches, config, steps=diffusion.steps, runtime=runtime), run)


def _row(load: Load, patches: Patches) -> Row:
    with tempfile.TemporaryDirectory() as name:
        made = trainer(load, patches, Path(name))
        work = 3 * flops(lambda: _forward(made, load))
        made.fit()
        lines = read(Path(name) / "journal.jsonl")[1:]  # the first update compiles and fills caches
    speeds = [float(line["patches_per_second"] or 0) for line in lines]
    waiting = float(np.median([float(line["waiting"] or 0) for line in lines]))
    bf16 = made.run.runtime.precision == "bf16"
    return Row(
        part="training",
        what=f"{load.title}, {made.run.runtime.precision}",
        cost=Cost(tuple(load.batch / s for s in speeds), ()),
        amount=float(load.batch),
        unit="patches",
        floor_s=machine().floor_s(work, bf16=bf16),
        floor=f"{work / 1e12:.2f} TFLOP a step (forward and twice that backward) over the peak",
        target="the network waits at most 10 % of the time",
        met=waiting <= 0.1,
        note=f"waiting {100 * waiting:.1f} % of the time",
    )


def _forward(made: Trainer, load: Load) -> object:
    network = made.objective.network
    with torch.no_grad():
        return network(torch.zeros(load.batch, 2, *SHAPE), torch.zeros(load.batch))


def _teacher(load: Load, patches: Patches, found: list[Row]) -> Row:
    """Dense descriptors of a batch, when not precomputed, compared with the step of stage 2."""
    hu = (torch.from_numpy(patches.ct[: load.batch].astype(np.float32)) + 1) * 700 - 1000
    lung = torch.from_numpy(np.array(patches.mask[: load.batch])) > 0
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        describe_dense(hu, lung, stride=4, window=8)
        seconds.append(time.perf_counter() - begin)
    step = next((row for row in found if "stage 2" in row.what), found[-1]).cost.seconds
    share = sorted(seconds)[1] / step
    return Row(
        part="training",
        what=f"dense teacher of {load.batch} patches, computed in the step",
        cost=Cost(tuple(seconds), ()),
        amount=float(load.batch),
        unit="patches",
        target="at most 10 % of the step",
        met=share <= 0.1,
        note=f"{100 * share:.0f} % of a step of stage 2 that computes it; nothing once `precompute` has stored it",
    )


def _two_processes() -> Row:
    """Two processes of one thread each compared with one, tiny network, the same patches per process."""
    one, two = (_torchrun(count) for count in (1, 2))
    return Row(
        part="training",
        what="tiny, stage 1, two processes of one thread",
        cost=Cost((1 / two,), ()),
        amount=1.0,
        unit="patches",
        peer="one process of one thread",
        peer_cost=Cost((1 / one,), ()),
        note=f"{two:.2f} patches/s against {one:.2f}: efficiency {100 * two / one / 2:.0f} %",
    )


def _torchrun(processes: int) -> float:
    """Patches per second of a short run with this many processes."""
    with tempfile.TemporaryDirectory() as name, synthetic_patches(8) as patches:
        words = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", "-m", "diffseglung"]
        words += ["train", "--patches-dir", str(patches.folder), "-o", name, "--size", "tiny", "--iterations", "8"]
        words += ["--batch-size", "4", "--sample-every", "0", "--log-every", "1", "--device", "cpu", "-q"]
        done = subprocess.run([sys.executable, *words], env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True)  # noqa: S603
        if done.returncode:
            raise RuntimeError(done.stderr.decode()[-2000:])
        lines = read(Path(name) / "journal.jsonl")[2:]
        return float(np.median([float(line["patches_per_second"] or 0) for line in lines]))


def _eight_gpus() -> Row:
    """Arithmetic, not a measurement: compute of a step against the all-reduce of its gradients."""
    load = replace(Load("reference"), batch=8)
    network = UNet(UNETS[load.size])
    parameters = sum(p.numel() for p in network.parameters())
    one = 3 * flops(lambda: network(torch.zeros(1, 2, *SHAPE), torch.zeros(1)))
    compute = load.batch * one / (GPU_TFLOPS * 1e12 * GPU_SHARE)
    volume = 2 * 7 / 8 * 4 * parameters
    talk = volume / (LINKS_GB_S * 1e9)
    return Row(
        part="training",
        what=f"estimate: {load.title}, eight GPUs",
        cost=Cost((compute + talk,), ()),
        amount=8.0 * load.batch,
        unit="patches",
        floor_s=compute,
        floor=f"{GPU_TFLOPS:g} TFLOPS, of which {100 * GPU_SHARE:g} % reached",
        note=f"{volume / 1e6:.0f} MB a step and GPU over {LINKS_GB_S:g} GB/s: efficiency at least "
        f"{100 * compute / (compute + talk):.0f} % with no overlap; assumed, not measured",
    )
