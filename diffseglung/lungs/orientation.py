"""Whether a chest lies as its header says: head up, front first, right to the right, axes in their order.

Converters store slices or rows in reverse under an unchanged header, and the sides of a result are then wrong without a
word. Spine, heart, liver and apices tell. A small network learns it without any label, from chests that were turned
on purpose (Gidaris et al., ICLR 2018, arXiv 1803.07728): `scripts/train_orientation.py`. All eight mirror images of a
scan are asked, and their answers averaged.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

WEIGHTS = Path(__file__).parents[1] / "weights" / "orientation.safetensors"
FIELD = (32, 24, 32)
"""Voxels of 12 mm around the lungs that the network sees."""
EXCHANGES = ("head and feet", "front and back", "right and left", "two axes")
FLIPS = tuple(product((False, True), repeat=3))


class OrientationNet(nn.Module):
    """Windows (B, 3, *FIELD) at 12 mm to logits (B, 4) of the EXCHANGES."""

    def __init__(self, windows: int = 3) -> None:
        super().__init__()
        widths = (windows, 24, 48, 64)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv3d(before, after, 3, 2, 1), nn.GroupNorm(8, after), nn.SiLU()]
        cells = int(np.prod([n // 8 for n in FIELD]))
        tail = [nn.Flatten(), nn.Linear(cells * widths[-1], 48), nn.SiLU(), nn.Linear(48, len(EXCHANGES))]
        self.layers = nn.Sequential(*layers, *tail)

    def forward(self, x: Tensor) -> Tensor:
        """Logits: three of mirrored axes, and one of exchanged axes, where the others tell nothing."""
        logits: Tensor = self.layers(x)
        return logits


def field_around(windows: Tensor, lungs: NDArray[np.bool_]) -> Tensor:
    """Windows (3, Z, Y, X) at 6 mm as (3, *FIELD) at 12 mm around the middle of the lungs; beyond the scan is air."""
    middle = [round((int(line[0]) + int(line[-1])) / 4) for line in _lines(lungs)]
    half = nn.functional.avg_pool3d(windows[None], 2, ceil_mode=True, count_include_pad=False)[0]
    out = torch.full((len(windows), *FIELD), -1.0)
    into, of = [], []
    for n, size, centre in zip(half.shape[1:], FIELD, middle, strict=True):
        first = centre - size // 2
        of.append(slice(max(0, first), min(n, first + size)))
        into.append(slice(max(0, -first), max(0, -first) + of[-1].stop - of[-1].start))
    out[(slice(None), *into)] = half[(slice(None), *of)]
    return out


def exchanged(field: Tensor) -> tuple[float, float, float, float]:
    """Probability of each of the EXCHANGES for windows (3, *FIELD)."""
    axes = [[axis + 1 for axis, flip in enumerate(flips) if flip] for flips in FLIPS]
    with torch.inference_mode():
        logits = _network()(torch.stack([field.flip(flipped) for flipped in axes]))
    signs = torch.tensor([[1.0 - 2.0 * flip for flip in flips] + [1.0] for flips in FLIPS])
    upside, backward, mirrored, swapped = torch.sigmoid((logits * signs).mean(0)).tolist()
    return upside, backward, mirrored, swapped


def _lines(lungs: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Indices along each axis where there is lung; the ends of the array where there is none."""
    found = [np.flatnonzero(lungs.any(axis)) for axis in ((1, 2), (0, 2), (0, 1))]
    return [line if len(line) else np.array([0, n]) for line, n in zip(found, lungs.shape, strict=True)]


@cache
def _network() -> OrientationNet:
    from safetensors.torch import load_file

    network = OrientationNet().eval()
    network.load_state_dict({name: weight.float() for name, weight in load_file(WEIGHTS).items()})
    return network
