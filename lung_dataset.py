"""Training patches of a folder of NPZ cases (keys ct and mask), cut once into a folder and read from there.

Implemented in `diffseglung.io.npz` (cases) and `diffseglung.training.precompute` (patches).
"""

from pathlib import Path

from diffseglung.io.npz import iter_cases, read_case
from diffseglung.platform.config import PatchConfig
from diffseglung.training.precompute import PatchJob, precompute
from lung_dataset_precomputed import PrecomputedLungDataset

__all__ = ["LungDataset", "PatchConfig", "iter_cases", "read_case"]


class LungDataset(PrecomputedLungDataset):
    """Items of `PrecomputedLungDataset`, from the cases of `npz_dir`; patches that `patches_dir` holds are reused."""

    def __init__(self, npz_dir: Path | str, patches_dir: Path | str, config: PatchConfig | None = None) -> None:
        job = PatchJob(patch=config or PatchConfig())
        super().__init__(precompute(iter_cases(npz_dir), Path(patches_dir), job))
