"""Train the network that knows where lungs would be (diffseglung/preprocess/envelope.py).

python scripts/train_lung_envelope.py --real SCAN.nii.gz ... --phantoms DIR ... -o RUN [--updates 1800]

Real scans bring SCAN_lung.nii.gz where an expert drew the lungs; else `find_lungs` without this network draws them.
Phantoms are folders of `diffseglung phantom`. In most visits parts of the lungs are filled to the density of soft
tissue; the answer is the whole lung. No pathology label is read.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from diffseglung.config import LungMaskConfig
from diffseglung.io.nifti import read_nifti
from diffseglung.preprocess.envelope import SPACING_MM, EnvelopeNet, windows
from diffseglung.preprocess.lungs import find_lungs
from diffseglung.preprocess.resample import resample, resample_onto
from diffseglung.volume import Reorientation

CROP = (64, 64, 80)
"""Voxels of 5 mm: most of a chest."""
LR, EVERY = 2e-3, 50
"""Highest learning rate; updates between journal lines."""
Random = np.random.Generator


@dataclass(frozen=True, eq=False)
class Case:
    """One scan at 5 mm. hu: (Z, Y, X) HU; lungs: share of lung in a voxel, 0..1."""

    name: str
    hu: np.ndarray
    lungs: np.ndarray


def load(scan: Path, mask: Path | None, name: str) -> Case:
    """Read, turn upright and coarsen."""
    ct = read_nifti(scan)
    lungs = read_nifti(mask) if mask else find_lungs(ct, LungMaskConfig(envelope=False))
    turn = Reorientation.of(ct)
    upright = turn.apply(ct)
    coarse = resample(upright, SPACING_MM)
    share = resample_onto(turn.apply(ct.with_array((lungs.array > 0).astype(np.float32))), coarse, fill=0.0)
    return Case(name, np.nan_to_num(coarse.array, nan=-1000.0), share.array)


def fill(case: Case, rng: Random) -> np.ndarray:
    """HU with parts of the lungs as dense as soft tissue, their borders ragged."""
    hu, lungs = case.hu.copy(), case.lungs
    inside = np.argwhere(lungs > 0.5)
    if not len(inside) or rng.random() < 0.15:
        return hu
    z, y, x = np.indices(hu.shape)
    middle = np.median(inside[:, 2])
    edge = np.argwhere((lungs > 0.5) & (ndimage.uniform_filter(lungs, 3) < 0.8))
    for _ in range(rng.integers(1, 4)):
        where = edge if rng.random() < 0.7 and len(edge) else inside
        centre = where[rng.integers(len(where))]
        ragged = ndimage.gaussian_filter(rng.normal(size=hu.shape), rng.uniform(1.0, 3.0))
        ragged *= rng.uniform(0.5, 2.5) / ragged.std()
        kind = rng.random()
        if kind < 0.5:  # an ellipsoid
            radii = rng.uniform(2.5, 12, 3)
            distance = (
                np.sqrt(sum(((a - c) / r) ** 2 for a, c, r in zip((z, y, x), centre, radii, strict=True))) - 1
            ) * radii.mean()
        else:  # the part of one lung on one side of a plane: a lobe or two, rarely all
            normal = rng.normal(size=3) * (1.5, 1.0, 0.5)
            normal /= np.linalg.norm(normal)
            distance = normal[0] * (z - centre[0]) + normal[1] * (y - centre[1]) + normal[2] * (x - centre[2])
            if rng.random() < 0.4:  # a wedge
                other = rng.normal(size=3)
                other /= np.linalg.norm(other)
                distance = np.maximum(
                    distance, other[0] * (z - centre[0]) + other[1] * (y - centre[1]) + other[2] * (x - centre[2])
                )
            distance = np.where((x < middle) == (centre[2] < middle), distance, np.inf)
        weight = np.clip(0.5 - (distance + ragged) / rng.uniform(0.5, 2.0), 0, 1) * lungs
        texture = ndimage.gaussian_filter(rng.normal(size=hu.shape), rng.uniform(0.3, 1.5))
        level = rng.uniform(-20, 75) if rng.random() < 0.8 else rng.uniform(-200, -20)
        dense = level + texture / texture.std() * rng.uniform(3, 45)
        hu = np.where(weight > 0, (1 - weight) * hu + weight * dense, hu)
    return hu


def visit(case: Case, rng: Random) -> tuple[Tensor, Tensor]:
    """One training pair: HU (1, *CROP), lung share (1, *CROP), moved, stretched, noisy and partly filled."""
    pair = np.stack([fill(case, rng), case.lungs]).astype(np.float32)
    matrix = np.eye(3) + rng.normal(0, 0.05, (3, 3)) + np.diag(rng.uniform(-0.2, 0.2, 3))
    shape = np.asarray(pair.shape[1:])
    focus = ndimage.center_of_mass(case.lungs) + rng.uniform(-1, 1, 3) * (16, 8, 8)
    theta = np.zeros((3, 4))
    order = [2, 1, 0]  # affine_grid counts halves of the array, along x, y, z
    theta[:, :3] = np.diag(1 / shape[order]) @ (matrix[order][:, order]) @ np.diag(np.asarray(CROP)[order])
    theta[:, 3] = ((2 * np.asarray(focus) + 1) / shape - 1)[order]
    grid = functional.affine_grid(torch.tensor(theta, dtype=torch.float32)[None], [1, 1, *CROP], align_corners=False)
    both = torch.from_numpy(pair)[None]
    both[:, 0] += 1000
    moved = functional.grid_sample(both, grid, align_corners=False, padding_mode="zeros")[0]
    hu, lungs = moved[:1] - 1000, moved[1:]
    rough = torch.from_numpy(rng.normal(0, rng.uniform(0, 25), hu.shape).astype(np.float32))
    hu = hu + rough + float(rng.normal(0, 12))
    return hu, lungs


def loss(logits: Tensor, lungs: Tensor, hu: Tensor) -> Tensor:
    """Cross-entropy, heavier where tissue is dense, plus a soft Dice loss over those voxels."""
    dense = (hu > -300).float()
    weight = 1 + 4 * dense * (functional.max_pool3d(lungs, 7, 1, 3) > 0.5)
    entropy = functional.binary_cross_entropy_with_logits(logits, lungs, weight, reduction="sum") / weight.sum()
    p = torch.sigmoid(logits)
    overlap = 1 - (2 * (p * lungs * dense).sum() + 20) / ((p * dense).sum() + (lungs * dense).sum() + 20)
    return entropy + 0.5 * overlap


def pair_up(scans: list[Path]) -> list[Case]:
    """Real scans with an expert's lungs where LCTSC gives them, else with the lungs that thresholds find."""
    cases = []
    for scan in scans:
        mask = scan.with_name(scan.name.replace(".nii.gz", "_lung.nii.gz"))
        expert = mask.is_file() and "lctsc" in scan.name
        cases.append(load(scan, mask if expert else None, scan.name.removesuffix(".nii.gz")))
    return cases


def train(real: list[Case], drawn: list[Case], *, updates: int, batch: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield the journal line of every 50 updates, with the averaged weights under `weights`."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = EnvelopeNet()
    adam = torch.optim.AdamW(network.parameters(), LR, weight_decay=1e-4)
    average = {name: weight.clone() for name, weight in network.state_dict().items()}
    begin, running = time.perf_counter(), 0.0
    for update in range(updates):
        cosine = 0.02 + 0.98 * (1 + math.cos(math.pi * update / updates)) / 2
        adam.param_groups[0]["lr"] = LR * min(1, (update + 1) / 100) * cosine
        visits = []
        for _ in range(batch):
            pool = real if real and (not drawn or rng.random() < 0.6) else drawn
            visits.append(visit(pool[rng.integers(len(pool))], rng))
        hu, lungs = (torch.stack(part) for part in zip(*visits, strict=True))
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(windows(hu[:, 0]))
        error = loss(logits.float(), lungs, hu)
        adam.zero_grad()
        error.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        adam.step()
        for name, weight in network.state_dict().items():
            average[name].lerp_(weight, 1 - min(0.995, update / (update + 20)))
        running += float(error.detach())
        if (update + 1) % EVERY == 0:
            seconds = round(time.perf_counter() - begin)
            yield {"update": update + 1, "loss": running / EVERY, "seconds": seconds, "weights": average}
            running = 0.0


def main() -> int:
    """Train, write RUN/journal.jsonl and RUN/lung-envelope.safetensors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, nargs="*", default=[], help="CT scans")
    parser.add_argument("--phantoms", type=Path, nargs="*", default=[], help="folders of diffseglung phantom")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--updates", type=int, default=1800)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    folders = sorted(path.parent for folder in args.phantoms for path in folder.rglob("truth.nii.gz"))
    if not args.real and not folders:
        parser.error("no cases: give --real scans, --phantoms folders, or both")
    args.output.mkdir(parents=True, exist_ok=True)
    real = pair_up(args.real)
    drawn = [load(folder / "ct.nii.gz", folder / "lungs.nii.gz", folder.name) for folder in folders]
    print(f"{len(real)} real scans, {len(drawn)} phantoms", flush=True)
    with (args.output / "journal.jsonl").open("w") as journal:
        for line in train(real, drawn, updates=args.updates, batch=args.batch, seed=args.seed):
            save(line.pop("weights"), args.output)
            print(line, flush=True)
            print(json.dumps(line), file=journal, flush=True)
    return 0


def save(weights: dict[str, Tensor], folder: Path) -> None:
    """float16 weights under their final name, by way of a temporary one."""
    target = folder / "lung-envelope.safetensors"
    save_file({name: weight.half() for name, weight in weights.items()}, f"{target}.part")
    Path(f"{target}.part").replace(target)


if __name__ == "__main__":
    raise SystemExit(main())
