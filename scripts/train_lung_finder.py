"""Train the network of the lung finder (diffseglung/lungs/anatomy.py).

python scripts/train_lung_finder.py --real DATA [--references FOLDER] [--phantoms DIR ...] -o RUN [--updates 5000]

DATA holds the scans of the training list (docs/data.md). References are label maps NAME.nii.gz on each scan's grid:
1 right lung, 2 left lung, 3 trachea and main bronchi; an expert's X_lung.nii.gz takes precedence. Phantoms are folders
of `diffseglung phantom`. An interrupted run is resumed. No pathology label is read.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from chest_variety import STORED_MM, Array, Chest, visit_of
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from diffseglung.case.resample import coarsened, grid_at
from diffseglung.io.nifti import read_nifti
from diffseglung.lungs.airways import find_airways
from diffseglung.lungs.anatomy import AIRWAY, BODY, CLASSES, LEFT, RIGHT, ROOM, AnatomyNet, windows
from diffseglung.lungs.coarse import Coarse, body_mask
from diffseglung.lungs.masks import adapt_mask
from diffseglung.volume import Reorientation, Volume

TRAIN = (
    *(f"lctsc_Test-S1-{patient}" for patient in (101, 102, 103, 104, 201, 202)),
    *("lidc_0001", "lungdx_A0001_s3", "LIDC-IDRI-0002", "NSCLC-R01-001", "TCGA-DE-A4MA", "4D-Lung-113_HM10395"),
    "CRLM-CT-1004",
)
"""The 13 patients of the training split."""
FINE_MM = 2.0
LR, BATCH, EVERY, REAL = 2e-3, 2, 50, 0.8
"""Peak learning rate; visits per update; updates between log lines; fraction of visits to real scans."""
DICE = 0.5
"""Weight of the soft Dice loss of the lungs relative to the cross-entropy of the classes."""


def scan_name(path: Path) -> str:
    """A scan's name: its file, or the folder of a ct.nii.gz."""
    name = path.name.removesuffix(".nii.gz")
    return path.parent.name if name == "ct" else name


def load(ct: Volume, reference: Volume, name: str) -> Chest:
    """A scan and its lungs at 3 mm, with the fractions of the five classes in each voxel."""
    labels = np.asarray(reference.array)
    expert = len(np.unique(labels)) == 2
    sides = adapt_mask(ct.with_array((labels == 1).astype(np.uint8)), ct).array if expert else labels
    turn = Reorientation.of(ct)
    upright, sides = turn.apply(ct), turn.apply(ct.with_array(np.asarray(sides))).array
    grid = grid_at(upright, STORED_MM)
    coarse = Coarse.of(upright, FINE_MM)
    body = body_mask(coarse)
    airways = find_airways(coarse, body) if expert or not (labels == 3).any() else np.zeros_like(body)

    def share(values: Array) -> Array:
        return coarsened(Volume(values.astype(np.float32), upright.affine), grid).array

    shares = np.zeros((CLASSES, *grid.shape), np.float32)
    shares[RIGHT], shares[LEFT] = share(sides == 1), share(sides == 2)
    fine_airways = np.asarray(coarse.spread(airways, upright.shape)) | (sides == 3)
    shares[AIRWAY] = np.minimum(share(fine_airways), 1 - shares[RIGHT] - shares[LEFT])
    inside = share(np.asarray(coarse.spread(body, upright.shape)))
    shares[BODY] = np.clip(inside - shares[[RIGHT, LEFT, AIRWAY]].sum(0), 0, 1)
    shares[ROOM] = np.clip(1 - shares[1:].sum(0), 0, 1)
    return Chest(name, np.nan_to_num(coarsened(upright, grid).array, nan=-1000.0), shares)


def real_chests(data: Path, references: Path | None, without: tuple[str, ...]) -> Iterator[Chest]:
    """The scans of the training list found below `data`."""
    for path in sorted(data.rglob("*.nii.gz")):
        name = scan_name(path)
        if name not in TRAIN or any(part in name for part in without):
            continue
        expert = path.with_name(f"{name}_lung.nii.gz")
        drawn = references / f"{name}.nii.gz" if references else expert
        yield load(read_nifti(path), read_nifti(expert if "lctsc" in name else drawn), name)


def load_all(
    data: Path | None, references: Path | None, without: tuple[str, ...], phantoms: list[Path]
) -> tuple[list[Chest], list[Chest]]:
    """Real chests and phantoms."""
    real = list(real_chests(data, references, without)) if data else []
    folders = sorted(path.parent for folder in phantoms for path in folder.rglob("truth.nii.gz"))
    return real, [load(read_nifti(f / "ct.nii.gz"), read_nifti(f / "lungs.nii.gz"), f.name) for f in folders]


def loss(logits: Tensor, visit: tuple[Tensor, ...]) -> Tensor:
    """Cross-entropy of the classes, and soft Dice of the lungs where tissue is dense."""
    hu, shares, weight = visit
    entropy = -(shares * functional.log_softmax(logits, 1)).sum(1, keepdim=True)
    total = (weight * entropy).sum() / weight.sum()
    p, truth = torch.softmax(logits, 1)[:, [RIGHT, LEFT]], shares[:, [RIGHT, LEFT]]
    dense = (hu > -300).float() * (weight > 0)
    overlap = (2 * (p * truth * dense).sum() + 50) / ((p * dense).sum() + (truth * dense).sum() + 50)
    return total + DICE * (1 - overlap)


def train(
    chests: list[Chest], phantoms: list[Chest], folder: Path, *, updates: int, seed: int
) -> Iterator[dict[str, Any]]:
    """Yield a log line every 50 updates, after the state is saved in `folder`."""
    torch.manual_seed(seed)
    network = AnatomyNet()
    adam = torch.optim.AdamW(network.parameters(), LR, weight_decay=1e-4)
    average = {name: weight.clone() for name, weight in network.state_dict().items()}
    begin, running, first = time.perf_counter(), 0.0, 0
    state = folder / "state.pt"
    if state.is_file():
        kept = torch.load(state, weights_only=True)
        network.load_state_dict(kept["network"])
        adam.load_state_dict(kept["adam"])
        average, first = kept["average"], kept["update"]

    def draw(rng: np.random.Generator) -> Chest:
        pool = chests if chests and (not phantoms or rng.random() < REAL) else phantoms
        return pool[rng.integers(len(pool))]

    for update in range(first, updates):
        rng = np.random.default_rng([seed, update])
        cosine = 0.02 + 0.98 * (1 + math.cos(math.pi * update / updates)) / 2
        adam.param_groups[0]["lr"] = LR * min(1, (update + 1) / 100) * cosine
        visit = tuple(torch.stack(part) for part in zip(*(visit_of(draw(rng), rng) for _ in range(BATCH)), strict=True))
        error = loss(network(windows(visit[0][:, 0])), visit)
        adam.zero_grad()
        error.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        adam.step()
        for name, weight in network.state_dict().items():
            average[name].lerp_(weight, 1 - min(0.995, update / (update + 20)))
        running += float(error.detach())
        if (update + 1) % EVERY == 0:
            save(average, folder)
            now = {"network": network.state_dict(), "adam": adam.state_dict()}
            torch.save({**now, "average": average, "update": update + 1}, folder / "state.part")
            (folder / "state.part").replace(state)
            seconds = round(time.perf_counter() - begin)
            yield {"update": update + 1, "loss": round(running / EVERY, 4), "seconds": seconds}
            running = 0.0


def save(weights: dict[str, Tensor], folder: Path) -> None:
    """Save float16 weights atomically."""
    target = folder / "lung-finder.safetensors"
    save_file({name: weight.half().contiguous() for name, weight in weights.items()}, f"{target}.part")
    Path(f"{target}.part").replace(target)


def main() -> int:
    """Train, write RUN/journal.jsonl and RUN/lung-finder.safetensors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, help="folder of scans; those of the training list are taken")
    parser.add_argument("--references", type=Path, help="folder of label maps where no expert drew the lungs")
    parser.add_argument("--without", nargs="*", default=[], help="patients left out, for a fold: 101 102 103")
    parser.add_argument("--phantoms", type=Path, nargs="*", default=[], help="folders of diffseglung phantom")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--updates", type=int, default=5000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.output.mkdir(parents=True, exist_ok=True)
    chests, drawn = load_all(args.real, args.references, tuple(args.without), args.phantoms)
    if not chests and not drawn:
        parser.error("no chests: give --real, --phantoms, or both")
    print(f"{len(chests)} real scans: {', '.join(chest.name for chest in chests)}; {len(drawn)} phantoms", flush=True)
    with (args.output / "journal.jsonl").open("a") as journal:
        for line in train(chests, drawn, args.output, updates=args.updates, seed=args.seed):
            print(json.dumps(line), flush=True)
            print(json.dumps(line), file=journal, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
