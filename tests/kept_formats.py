"""One small file of each format that is written, and what is in it: kept so that later versions go on reading them.

`python -m tests.kept_formats NAME` writes tests/formats/NAME with the present version; what is there stays as it is.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffseglung.io import read_mask, read_scan
from diffseglung.io.nifti import write_nifti
from diffseglung.io.npz import Case, read_case, write_case
from diffseglung.method import checkpoint
from diffseglung.method.train.data import open_patches
from diffseglung.method.train.state import State, load_state, save_state
from diffseglung.method.unet import UNet
from diffseglung.output import Products, write
from diffseglung.output.record import Origin
from diffseglung.pipeline import Segmenter
from diffseglung.platform.config import DistillConfig, PatchConfig, SegmentConfig, TrainConfig, UNetConfig
from diffseglung.training.precompute import PatchJob, precompute
from diffseglung.volume import Volume
from tests.toys import toy_volumes

FOLDER = Path(__file__).parent / "formats"
UNET = UNetConfig(base_channels=4, multipliers=(1, 2), heads=1)
SHAPE = (8, 8, 8)


def keep(folder: Path) -> None:
    """Write one of each."""
    from diffseglung.method.card import ModelCard

    folder.mkdir(parents=True)
    torch.manual_seed(0)
    weights = {f"network.{name}": value for name, value in UNet(UNET).state_dict().items()}
    patch = PatchConfig(shape=SHAPE, patches_per_patient=2, spacing_mm=1.5)
    card = ModelCard(unet=UNET, patch=patch, distill=DistillConfig(), name="kept", training={"cases": ["a__1"]})
    for ending in checkpoint.ENDINGS:
        checkpoint.save(folder / f"model{ending}", weights, card, dtype=torch.float16)
    parameter = torch.nn.Parameter(torch.ones(3))
    optimiser = torch.optim.AdamW([parameter])
    parameter.sum().backward()
    optimiser.step()
    state = State({"w": parameter.data}, {"weights": {"w": parameter.data}}, optimiser.state_dict(), 7, {
        "train": TrainConfig().to_dict(),
    })  # fmt: skip
    save_state(folder / "last.pt", state)
    hu, lungs = toy_volumes(0, (12, 16, 16))
    volume = Volume(hu, np.diag([1.5, 1.5, 1.5, 1.0])[[2, 1, 0, 3]])
    write_case(folder / "toy__0.npz", Case("toy__0", volume, volume.with_array(lungs), {}))
    job = PatchJob(patch=PatchConfig(shape=SHAPE, patches_per_patient=2, spacing_mm=0.0),
                   distill=DistillConfig(grid_stride=4, window=8))  # fmt: skip
    precompute([folder / "toy__0.npz"], folder / "patches", job)
    scan, mask = folder / "scan.nii.gz", folder / "lungs.nii.gz"
    chest, inside = small_chest()
    write_nifti(scan, chest)
    write_nifti(mask, inside)
    segmenter = Segmenter.load(config=SegmentConfig(method="physics"), device="cpu")
    result = segmenter.of_file(read_scan(scan), Origin(scan, mask), read_mask(mask))
    write(result, folder / "result", Products(preview=False, report=False))


def small_chest() -> tuple[Volume, Volume]:
    """Two boxes of lung with a haze, and their mask: 60 x 50 x 40 voxels of 4 mm."""
    hu, lungs = np.full((60, 50, 40), -1000, np.int16), np.zeros((60, 50, 40), np.uint8)
    hu[4:56, 4:46] = 40
    lungs[10:50, 12:38, 4:18], lungs[10:50, 12:38, 22:36] = 1, 2
    hu[lungs > 0] = -850 + np.random.default_rng(0).integers(-9, 9, (lungs > 0).sum())
    hu[12:24, 14:22, 8:16] = -600
    ct = Volume(hu, np.array([[0, 0, 4.0, -80], [0, 4.0, 0, -100], [4.0, 0, 0, 0], [0, 0, 0, 1]]))
    return ct, ct.with_array(lungs)


def contents(folder: Path) -> dict[str, Any]:
    """What the present version reads there; the oldest folders hold models only."""
    from diffseglung.output.record import read

    found: dict[str, Any] = {}
    for ending in checkpoint.ENDINGS:
        weights, card = checkpoint.load(folder / f"model{ending}")
        card.check_use(1.5)
        checkpoint.build(weights, card)
        found[f"model{ending}"] = {
            "name": card.name, "stage": card.stage, "base_channels": card.unet.base_channels, "labels": card.labels,
            "patch": list(card.patch.shape), "training": card.training, "weights": tensors(weights),
        }  # fmt: skip
    state = load_state(folder / "last.pt")
    found["last.pt"] = {"iteration": state.iteration, "weights": tensors(state.weights), "batch_size": state.settings["train"]["batch_size"]}  # noqa: E501  # fmt: skip
    found["optimiser"] = [tensors(state.optimiser["state"][0]), state.optimiser["param_groups"][0]["lr"]]
    if not (folder / "result").exists():
        return found
    case = read_case(folder / "toy__0.npz")
    found["case"] = {"name": case.name, "ct": digest(case.ct.array), "lungs": digest(case.lungs.array),
                     "affine": case.ct.affine.tolist()}  # fmt: skip
    patches = open_patches(folder / "patches")
    assert patches.dense is not None
    found["patches"] = {"shape": list(patches.ct.shape), "ct": digest(patches.ct[:]), "mask": digest(patches.mask[:]),
                        "dense": digest(patches.dense[:]), "ids": patches.patient_ids.tolist()}  # fmt: skip
    record = read(folder / "result")
    labels = read_mask(folder / "result" / "label_map.nii.gz")
    found["result"] = {
        "method": record.config.method, "labels": digest(labels.array), "affine": labels.affine.tolist(),
        "recorded": record.values["fingerprints"]["label_map"],
        "healthy_ml": json.loads((folder / "result" / "statistics.json").read_text("utf-8"))["healthy"]["volume_ml"],
    }  # fmt: skip
    return found


def tensors(values: dict[str, torch.Tensor]) -> str:
    """Hash of named tensors."""
    whole = hashlib.sha256()
    for name in sorted(values):
        whole.update(f"{name} {tuple(values[name].shape)}".encode())
        whole.update(values[name].detach().double().numpy().tobytes())
    return whole.hexdigest()[:16]


def digest(array: np.ndarray) -> str:
    """Hash of an array's shape, type and values."""
    kind = f"{array.shape} {array.dtype}".encode()
    return hashlib.sha256(kind + np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:  # records tell where their scan lay: nowhere of ours
        made = Path(place) / "kept"
        keep(made)
        shutil.copytree(made, FOLDER / sys.argv[1])
    (FOLDER / sys.argv[1] / "contents.json").write_text(json.dumps(contents(FOLDER / sys.argv[1]), indent=1) + "\n")
