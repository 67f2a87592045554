"""Features for comparing sets of patches: radiomic descriptors, and a fixed random network; lung voxels only.

Patches are cut into cubes of EDGE voxels without overlap; those with too little lung are omitted.

The network is random and never trained: three convolutions whose weights come from a fixed seed. Networks trained on
photographs do not suit CT, and one trained on these scans would be biased. Naeem et al. 2020 (arXiv 2002.09797) find
random embeddings to be a sound choice for data unlike those that networks are trained on.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from diffseglung.case.intensity import denormalise
from diffseglung.method.radiomics.descriptor import describe_batch
from diffseglung.platform.config import IntensityConfig, RadiomicsConfig
from diffseglung.platform.errors import CheckpointError
from studies.frechet import Groups, Rows

EDGE = 32
MIN_LUNG = RadiomicsConfig().min_lung
WIDTHS = (1, 8, 16, 32)
"""Channels into and out of the convolutions of the random network."""
SEED = 20200221
CHUNK = 16

Array = NDArray[np.float32]
Weights = list[tuple[Tensor, Tensor]]
"""(C_out, C_in, 3, 3, 3) and bias (C_out,) of each convolution."""


@dataclass(frozen=True, eq=False)
class Cloud:
    """Feature vectors of the cubes of a set of patches.

    descriptors: (m, 34).  network: (m, d).  groups: (m,) index of the patch that a cube was cut from.
    """

    descriptors: Rows
    network: Rows
    groups: Groups

    def first(self, patches: int) -> Cloud:
        """The cubes of the first patches only."""
        keep = self.groups < patches
        return Cloud(self.descriptors[keep], self.network[keep], self.groups[keep])


def cubes(values: Array, lungs: Array) -> tuple[Array, Array, Groups]:
    """Cubes (m, EDGE, EDGE, EDGE) of patches (n, Z, Y, X) and of their lungs, and the patch of each (m,).

    A patch shorter than EDGE along an axis is used whole along it.
    """
    size = [min(EDGE, side) for side in values.shape[1:]]
    counts = [side // edge for side, edge in zip(values.shape[1:], size, strict=True)]

    def split(array: Array) -> Array:
        cropped = array[:, : counts[0] * size[0], : counts[1] * size[1], : counts[2] * size[2]]
        parts = cropped.reshape(len(array), counts[0], size[0], counts[1], size[1], counts[2], size[2])
        return np.asarray(parts.transpose(0, 1, 3, 5, 2, 4, 6).reshape(-1, *size))

    inside = split(lungs)
    keep = inside.mean((1, 2, 3)) >= MIN_LUNG
    groups = np.repeat(np.arange(len(values)), int(np.prod(counts)))[keep]
    return split(values)[keep], inside[keep], groups


def describe(values: Array, lungs: Array, intensity: IntensityConfig) -> Rows:
    """Descriptors (m, 34) of patches (m, Z, Y, X) in model units; NaN for those without lung in a middle plane."""
    rows = [
        describe_batch(
            torch.from_numpy(denormalise(np.clip(values[i : i + CHUNK], -1, 1), intensity)),
            torch.from_numpy(lungs[i : i + CHUNK]),
        ).numpy()
        for i in range(0, len(values), CHUNK)
    ]
    return np.concatenate(rows).astype(np.float64) if rows else np.zeros((0, 34))


def random_weights() -> Weights:
    """The fixed network: He-normal weights (He et al. 2015), no bias."""
    rng = np.random.default_rng(SEED)
    made = []
    for before, after in itertools.pairwise(WIDTHS):
        kernel = rng.standard_normal((after, before, 3, 3, 3)) * np.sqrt(2 / (27 * before))
        made.append((torch.from_numpy(kernel.astype(np.float32)), torch.zeros(after)))
    return made


def read_weights(path: Path) -> Weights:
    """Another network of the same kind from a .safetensors file: conv0.weight, conv0.bias, conv1.weight, ...

    Weights are (C_out, C_in, 3, 3, 3), the first with one input channel. CheckpointError for anything else.
    """
    try:
        found = load(path.read_bytes())
    except (OSError, SafetensorError) as cause:
        raise CheckpointError(
            f"{path} cannot be read as tensors ({cause})", remedy="give a .safetensors file"
        ) from cause
    made: Weights = []
    channels = 1
    while f"conv{len(made)}.weight" in found:
        kernel, bias = (found.pop(f"conv{len(made)}.{part}", torch.zeros(0)).float() for part in ("weight", "bias"))
        if kernel.ndim != 5 or kernel.shape[1:] != (channels, 3, 3, 3) or bias.shape != kernel.shape[:1]:
            break
        made.append((kernel, bias))
        channels = len(bias)
    else:
        if made and not found and all(bool(torch.isfinite(t).all()) for pair in made for t in pair):
            return made
    raise CheckpointError(
        f"{path} is no feature network",
        remedy="it takes conv0.weight (C, 1, 3, 3, 3), conv0.bias (C,), conv1.weight ... and nothing else",
    )


@torch.no_grad()
def activate(values: Array, lungs: Array, weights: Weights) -> Rows:
    """Mean activation over the lung of the last convolution (m, d), for patches (m, Z, Y, X) in model units.

    Voxels outside the lung are set to the lung mean of their patch. Each convolution has stride 2 and ends in a ReLU.
    """
    rows = []
    for i in range(0, len(values), CHUNK):
        x, mask = (torch.from_numpy(a[i : i + CHUNK])[:, None].float() for a in (values, lungs))
        mask = (mask > 0).float()
        mean = (x * mask).sum((1, 2, 3, 4)) / mask.sum((1, 2, 3, 4))
        x = torch.where(mask > 0, x.clamp(-1, 1), mean[:, None, None, None, None])
        for kernel, bias in weights:
            x, mask = F.relu(F.conv3d(x, kernel, bias, stride=2, padding=1)), F.avg_pool3d(mask, 2, ceil_mode=True)
        rows.append(((x * mask).sum((2, 3, 4)) / mask.sum((2, 3, 4))).double().numpy())
    return np.concatenate(rows) if rows else np.zeros((0, len(weights[-1][1])))


def embed(values: Array, lungs: Array, intensity: IntensityConfig, weights: Weights) -> Cloud:
    """The cloud of a set of patches (n, Z, Y, X) in model units; cubes with an undefined descriptor are omitted."""
    parts, inside, groups = cubes(values, lungs)
    descriptors, network = describe(parts, inside, intensity), activate(parts, inside, weights)
    known = np.isfinite(descriptors).all(1) & np.isfinite(network).all(1)
    return Cloud(descriptors[known], network[known], groups[known])
