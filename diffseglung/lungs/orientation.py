"""Whether the orientation of a chest agrees with its header: head, front and right side, and the order of axes.

Some converters store slices or rows in reverse under an unchanged header, which silently swaps the sides of a result.
Spine, heart, liver and apices show it. A small network learns it without labels, from chests turned on purpose (Gidaris
et al., ICLR 2018, arXiv 1803.07728): `scripts/train_orientation.py`. Its answers to all eight mirror images of a scan
are averaged.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise, product
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)
WEIGHTS = Path(__file__).parents[1] / "weights" / "orientation.safetensors"
FIELD = (32, 24, 32)
"""Input of the network: voxels of 12 mm around the lungs."""
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
        """Logits: three of mirrored axes, and one of exchanged axes, where the others are undefined."""
        logits: Tensor = self.layers(x)
        return logits


def field_around(windows: Tensor, lungs: NDArray[np.bool_]) -> Tensor:
    """Windows (3, Z, Y, X) at 6 mm as (3, *FIELD) at 12 mm around the middle of the lungs; air beyond the scan."""
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
    return with_weights(OrientationNet(), WEIGHTS)


def with_weights(network: Network, path: Path) -> Network:
    """A network with the weights of a safetensors file, widened to float32, in eval mode."""
    from safetensors.torch import load_file

    network.load_state_dict({name: weight.float() for name, weight in load_file(path).items()})
    return network.eval()
