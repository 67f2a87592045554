"""A few centimetres of a phantom, and a model with tissue models fitted on it: for tests of the whole way."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np
import torch

from diffseglung.case.prepared import prepare_scan
from diffseglung.method import checkpoint
from diffseglung.method.card import ModelCard
from diffseglung.method.distillation import StudentHead
from diffseglung.method.unet import UNet
from diffseglung.phantom.procedural import make_phantom
from diffseglung.phantom.record import Phantom
from diffseglung.platform.config import UNETS, DistillConfig, PhantomConfig, TissueFitConfig, UNetConfig
from diffseglung.platform.runtime import Runtime
from diffseglung.tissue.bundle import load_bundle, tissue_tensors
from diffseglung.tissue.fit import Cohort
from diffseglung.tissue.methods import Rows
from diffseglung.volume import Volume

DEEPER = UNetConfig(base_channels=8, multipliers=(1, 1, 2), stem_stride=2, heads=2)
"""As small as `tiny`, with a level more: attention sees an eighth of the positions, which is most of the time."""


@functools.cache
def small_phantom(seed: int) -> Phantom:
    """A small phantom of the development split, made once for all tests of a process: nobody writes into it."""
    return make_phantom(PhantomConfig(seed=seed, size="small", split="dev"))


@functools.cache
def toy_phantom() -> Phantom:
    """The middle of a small phantom: a few centimetres of both lungs."""
    whole = small_phantom(3)
    z, y, x = whole.ct.shape
    low, high = (z // 3, 0, 0), (2 * z // 3, y, x)
    parts = [
        Volume(np.ascontiguousarray(v.array), v.affine)
        for v in (v.crop(low, high) for v in (whole.ct, whole.lungs, whole.truth))
    ]
    return Phantom(parts[0], parts[1], parts[2], whole.meta)


def toy_network() -> dict[str, torch.Tensor]:
    """Weights of an untrained tiny network."""
    torch.manual_seed(0)
    return {f"network.{name}": value for name, value in UNet(UNETS["tiny"]).state_dict().items()}


def toy_model(path: Path) -> Path:
    """A tiny untrained model with tissue models fitted on the toy phantom by physics alone."""
    checkpoint.save(path, *_toy_model())
    return path


@functools.cache
def _toy_model() -> tuple[dict[str, torch.Tensor], ModelCard]:
    torch.manual_seed(0)
    network, distill = UNet(DEEPER), DistillConfig(dimensions=8, hidden=8)
    head = StudentHead(network, distill)
    weights = {f"network.{k}": v for k, v in network.state_dict().items()}
    weights |= {f"head.{k}": v for k, v in head.state_dict().items()}
    card = ModelCard(unet=DEEPER, distill=distill, stage=2, name="tiny")
    phantom, cohort = toy_phantom(), Cohort(rows_per_scan=4000)
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "bare.safetensors"
        checkpoint.save(bare, weights, card)
        bundle = load_bundle(bare)
    cohort.add(Rows(prepare_scan(phantom.ct, phantom.lungs, 1.5), bundle, Runtime(device=torch.device("cpu"))))
    tissues = cohort.fit(TissueFitConfig(iterations=200, hidden=(16,)))
    return weights | tissue_tensors(tissues), card
