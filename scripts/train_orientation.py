"""Train the network that checks the orientation in the header (diffseglung/lungs/orientation.py).

python scripts/train_orientation.py --real DATA [--references FOLDER] [--phantoms DIR ...] -o RUN

The chests of `train_lung_finder.py`, augmented as there, are mirrored along axes or two axes are exchanged; the target
is the change made. No label is read.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from chest_variety import Chest, by_header
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional
from train_lung_finder import load_all

from diffseglung.lungs.anatomy import LEFT, RIGHT, windows
from diffseglung.lungs.orientation import FIELD, OrientationNet, field_around

LR, BATCH = 1e-3, 32
LEAST_VOXELS = 2500
"""Minimum number of lung voxels of 6 mm (half a litre) for a visit to be used."""


def fields(chests: list[Chest], number: int, seed: int) -> Iterator[Tensor]:
    """Windows (3, *FIELD) of chests in the orientation of their header."""
    index = 0
    while number:
        rng = np.random.default_rng([seed, index])
        index += 1
        hu, shares, weight = by_header(chests[rng.integers(len(chests))], rng)
        lungs = (shares[[RIGHT, LEFT]].sum(0) > 0.5).numpy() & (weight[0] > 0).numpy()
        if lungs.sum() >= LEAST_VOXELS:
            number -= 1
            yield field_around(windows(hu[0]), lungs)


def turned(field: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """The field mirrored and shifted at random, sometimes with two axes exchanged; and its target, -1 where unused."""
    flips, swapped = rng.random(3) < 0.5, rng.random() < 0.2
    out = field.flip([axis + 1 for axis in np.flatnonzero(flips)])
    out = torch.roll(out, [int(s) for s in rng.integers(-2, 3, 3)], (1, 2, 3))
    done = torch.tensor([*flips, swapped], dtype=torch.float32)
    if swapped:
        a, b = ((0, 1), (1, 2), (0, 2))[rng.integers(3)]
        moved = out.transpose(a + 1, b + 1)
        out = torch.full((len(field), *FIELD), -1.0)
        into, of = [], []
        for n, size in zip(moved.shape[1:], FIELD, strict=True):
            into.append(slice(max(0, (size - n) // 2), max(0, (size - n) // 2) + min(n, size)))
            of.append(slice(max(0, (n - size) // 2), max(0, (n - size) // 2) + min(n, size)))
        out[(slice(None), *into)] = moved[(slice(None), *of)]
        done[:3] = -1
    return out, done


def main() -> int:
    """Train, write RUN/orientation.safetensors and print the loss."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, help="folder of scans; those of the training list are taken")
    parser.add_argument("--references", type=Path, help="folder of label maps where no expert drew the lungs")
    parser.add_argument("--phantoms", type=Path, nargs="*", default=[], help="folders of diffseglung phantom")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--visits", type=int, default=800)
    parser.add_argument("--updates", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    chests, drawn = load_all(args.real, args.references, (), args.phantoms)
    seen = torch.stack(list(fields(chests + drawn, args.visits, args.seed)))
    network, rng = OrientationNet(), np.random.default_rng(args.seed)
    adam = torch.optim.AdamW(network.parameters(), LR, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, args.updates)
    running = 0.0
    for update in range(args.updates):
        pairs = [turned(seen[rng.integers(len(seen))], rng) for _ in range(BATCH)]
        x, done = (torch.stack(part) for part in zip(*pairs, strict=True))
        x = x + torch.randn(len(x), 3, 1, 1, 1) * 0.05 + torch.randn_like(x) * 0.05
        entropy = functional.binary_cross_entropy_with_logits(network(x), done.clamp(min=0), reduction="none")
        error = (entropy * (done >= 0)).sum() / (done >= 0).sum()
        adam.zero_grad()
        error.backward()
        adam.step()
        schedule.step()
        running += float(error.detach())
        if (update + 1) % 100 == 0:
            print(json.dumps({"update": update + 1, "loss": round(running / 100, 4)}), flush=True)
            running = 0.0
    weights = {name: weight.half().contiguous() for name, weight in network.state_dict().items()}
    save_file(weights, args.output / "orientation.safetensors")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
