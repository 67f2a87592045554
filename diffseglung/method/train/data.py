"""Training patches on disk, read on demand, and the batches drawn from them.

Every random draw of an iteration depends on (seed, iteration, place of the patch in the global batch) only: not on how
that batch is divided into processes and micro-batches, nor on whether the run was interrupted.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffseglung.method.radiomics.descriptor import DESCRIPTOR_NAMES
from diffseglung.platform import serialization
from diffseglung.platform.config import DistillConfig, TrainConfig
from diffseglung.platform.errors import InputError
from diffseglung.platform.row_files import StoredRows
from diffseglung.platform.runtime import Runtime, generator, patch_noise
from diffseglung.volume import Array, Shape

T = TypeVar("T")
ORDER, DRAW, NOISE, LEVEL = range(4)
"""Purposes of random numbers: order of patches, flips, noise, noise level."""


@dataclass(frozen=True, eq=False)
class Patches:
    """A folder written by `precompute`.

    ct:          (N, Z, Y, X) float16, model units.
    mask:        (N, Z, Y, X) uint8, 1 in the lungs.
    patient_ids: (N,) text.
    dense:       (N, 34, z, y, x) float16 descriptors on the feature grid, NaN outside the lung; None if not stored.
    whole:       (N, 34) float32 descriptors of whole patches; None if not stored. They are used for flipped patches
                 too, although the middle planes of these are the neighbouring ones.
    info:        contents of patches.json: settings and cases.
    """

    folder: Path
    ct: StoredRows
    mask: StoredRows
    patient_ids: Array
    dense: StoredRows | None
    whole: StoredRows | None
    info: dict[str, Any]

    def __len__(self) -> int:
        return len(self.ct)

    @property
    def shape(self) -> Shape:
        """Size of a patch in voxels."""
        z, y, x = self.ct.shape[1:]
        return z, y, x

    def teacher(self, distill: DistillConfig) -> StoredRows | None:
        """The stored descriptors for these settings, one row per patch; None if they have to be computed.

        Raises InputError for rows that contradict patches.json.
        """
        made, published = self.info.get("teacher") or {}, distill.loss == "published"
        stored = self.whole if published else self.dense
        cells = published or (made.get("stride"), made.get("window")) == (distill.grid_stride, distill.window)
        if stored is None or not cells or made.get("descriptors") != list(DESCRIPTOR_NAMES):
            return None
        grid = () if published else tuple(side // distill.grid_stride for side in self.shape)
        if stored.shape[1:] != (len(DESCRIPTOR_NAMES), *grid):
            raise InputError(
                f"{stored.path} {stored.shape} does not fit the patches {self.ct.shape}", remedy="run precompute again"
            )
        return stored

    @property
    def digest(self) -> str:
        """Short hash of the settings and cases."""
        return hashlib.sha256(json.dumps(self.info, sort_keys=True).encode()).hexdigest()[:16]


def open_patches(folder: Path) -> Patches:
    """Open a folder of precomputed patches; data are read on use.  Raises InputError."""
    if not (folder / "ct.npy").is_file() or not (folder / "mask.npy").is_file():
        raise InputError(
            f"{folder} has no precomputed patches (ct.npy and mask.npy)",
            remedy="run precompute first, and pass its --out_dir",
        )
    ct, mask = StoredRows.open(folder / "ct.npy"), StoredRows.open(folder / "mask.npy")
    if ct.ndim != 4 or ct.shape != mask.shape or len(ct) == 0:
        raise InputError(
            f"ct.npy {ct.shape} and mask.npy {mask.shape} in {folder} are not patches (N, Z, Y, X) of one shape",
            remedy="run precompute again",
        )
    ids, dense, whole = (_stored(folder / f"{name}.npy") for name in ("patient_ids", "teacher", "teacher_patch"))
    for name, stored in (("teacher", dense), ("teacher_patch", whole), ("patient_ids", ids)):
        wanted = {"teacher": 5, "teacher_patch": 2, "patient_ids": 1}[name]
        if stored is not None and (stored.ndim != wanted or len(stored) != len(ct)):
            raise InputError(
                f"{name}.npy {stored.shape} does not fit the patches {ct.shape}", remedy="run precompute again"
            )
    names = np.full(len(ct), "unknown") if ids is None else np.asarray(ids)
    return Patches(folder, ct, mask, names, dense, whole, _info(folder, ct.shape))


def _stored(path: Path) -> StoredRows | None:
    return StoredRows.open(path) if path.is_file() else None


def _info(folder: Path, shape: tuple[int, ...]) -> dict[str, Any]:
    """Settings and cases of the patches; only their shape where there is no record."""
    path = folder / "patches.json"
    if not path.is_file():
        return {"shape": list(shape)}
    try:
        info = serialization.read(path)
    except ValueError as cause:
        raise InputError(f"{path} is not readable JSON ({cause})", remedy="run precompute again") from cause
    if not isinstance(info, dict) or not isinstance(info.get("teacher") or {}, dict):
        raise InputError(f"{path} is not a mapping of settings", remedy="run precompute again")
    return info


@dataclass(frozen=True, eq=False)
class Batch:
    """What one forward pass needs.

    clean, lung, noise: (B, 1, Z, Y, X) float32.  step: (B,) in 1..T.
    teacher: descriptors, (B, 34) or (B, 34, z, y, x), or None if they are to be computed; in stage 3 the class of every
    position, (B, z, y, x).
    """

    clean: Tensor
    lung: Tensor
    noise: Tensor
    step: Tensor
    teacher: Tensor | None

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> Batch:
        """The same batch in page-locked memory, from which a GPU copies without the CPU."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        teacher = None if self.teacher is None else change(self.teacher)
        return Batch(change(self.clean), change(self.lung), change(self.noise), change(self.step), teacher)


class BatchSource(Protocol):
    """Source of the training batches."""

    def batch(self, iteration: int, micro: int = 0) -> Batch:
        """Micro-batch `micro` of an iteration for this process."""
        ...


@dataclass(frozen=True)
class Draws:
    """The patches of a process and their random draws.  steps: length T of the chain;  teacher: stored rows."""

    patches: Patches
    config: TrainConfig
    steps: int
    teacher: StoredRows | None = None
    rank: int = 0
    world_size: int = 1

    @classmethod
    def of(
        cls, patches: Patches, config: TrainConfig, *, steps: int, runtime: Runtime, teacher: StoredRows | None = None
    ) -> Draws:
        """Draws of this process."""
        return cls(patches, config, steps, teacher, runtime.rank, runtime.world_size)

    @property
    def global_batch(self) -> int:
        """Patches in one update over all processes and micro-batches."""
        return self.config.batch_size * self.config.accumulate * self.world_size

    def batch(self, iteration: int, micro: int = 0) -> Batch:
        """Micro-batch `micro` of an iteration for this process."""
        first = (micro * self.world_size + self.rank) * self.config.batch_size
        items = [self._item(iteration, first + i) for i in range(self.config.batch_size)]
        clean, lung, noise, teacher = (list(column) for column in zip(*items, strict=True))
        return Batch(
            torch.stack(clean),
            torch.stack(lung),
            torch.stack(noise),
            self.levels(iteration)[first : first + self.config.batch_size],
            None if teacher[0] is None else torch.stack([rows for rows in teacher if rows is not None]),
        )

    def levels(self, iteration: int) -> Tensor:
        """Steps (global batch,) in 1..T: evenly spread, with one random offset (Kingma et al. 2021, app. I.1)."""
        offset = torch.rand(1, generator=generator(self.config.seed, LEVEL, iteration), dtype=torch.float64)
        spread = (torch.arange(self.global_batch) + offset) / self.global_batch
        return 1 + (spread * self.steps).long().clamp(max=self.steps - 1)

    def index(self, iteration: int, place: int) -> int:
        """The patch at a place of the global batch: all patches in random order, then again in a new order."""
        epoch, position = divmod((iteration - 1) * self.global_batch + place, len(self.patches))
        return int(_order(len(self.patches), self.config.seed, epoch)[position])

    def _item(self, iteration: int, place: int) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """clean, lung, noise (1, Z, Y, X) each, and the teacher; flipped together."""
        index = self.index(iteration, place)
        coins = torch.rand(3, generator=generator(self.config.seed, DRAW, iteration, place)) < 0.5
        axes = [i - 3 for i in range(3) if coins[i]]
        clean = torch.from_numpy(self.patches.ct[index].astype(np.float32))[None].flip(axes)
        lung = torch.from_numpy((self.patches.mask[index] > 0).astype(np.float32))[None].flip(axes)
        noise = patch_noise(tuple(clean.shape), self.config.seed, NOISE, iteration, place)
        teacher = None
        if self.teacher is not None:
            teacher = torch.from_numpy(self.teacher[index].astype(np.float32))
            teacher = teacher.flip(axes) if teacher.ndim == 4 else teacher
        return clean, lung, noise, teacher


@lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Order of the patches in one epoch."""
    return np.random.default_rng([seed, ORDER, epoch]).permutation(count)


def prefetch(items: Iterable[T], depth: int = 3) -> Generator[T, None, None]:
    """Produce items ahead of their use in one thread; errors are raised where the item is requested."""
    source, end = iter(items), object()
    pool = ThreadPoolExecutor(1)
    try:
        ahead = deque(pool.submit(next, source, end) for _ in range(depth))
        while (item := ahead.popleft().result()) is not end:
            ahead.append(pool.submit(next, source, end))
            yield item  # type: ignore[misc]
    finally:
        pool.shutdown(cancel_futures=True)
