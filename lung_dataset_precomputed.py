"""Training patches that `precompute_patches.py` wrote (ct.npy, mask.npy, patient_ids.npy), as a PyTorch dataset.

Implemented in `diffseglung.method.train.data`; training draws its batches with `Draws`.
"""

from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from diffseglung.method.train.data import Draws, Patches, open_patches

__all__ = ["Draws", "Patches", "PrecomputedLungDataset", "open_patches"]


class PrecomputedLungDataset(Dataset[tuple[Tensor, Tensor]]):
    """Item: CT in [-1, 1] and lung mask (0 or 1), each (1, Z, Y, X) float32, read from disk when asked for."""

    def __init__(self, patches_dir: Path | str) -> None:
        self.patches = open_patches(Path(patches_dir))

    def __len__(self) -> int:
        return len(self.patches)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return (
            torch.from_numpy(self.patches.ct[index].astype("float32"))[None],
            torch.from_numpy((self.patches.mask[index] > 0).astype("float32"))[None],
        )
