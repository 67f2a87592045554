"""Training patches on disk, read as they are needed, and the batches drawn from them.

Every random draw of an iteration belongs to (seed, iteration, place of the patch in the global batch): it does not
depend on how that batch is divided into processes and micro-batches, nor on whether the run was interrupted.
"""

from __future__ import annotations

import hashlib
import json
import queue
import threading
from collections.abc import Generator, Iterable
from dataclasses import dataclass
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
    dense:       (N, 34, z, y, x) float16 descriptors on the feature grid, NaN off the lung; None if not stored.
    whole:       (N, 34) float32 descriptors of whole patches; None if not stored. They also stand for flipped patches,
                 whose middle planes, where the whole-patch teacher looks for texture, are the neighbouring ones.
    info:        content of patches.json: settings and cases.
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
        """The stored descriptors that serve these settings, one row a patch; None: they have to be computed.

        Raises InputError for rows that are not what patches.json says.
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
        """Short hash that tells one set of patches from another."""
        return hashlib.sha256(json.dumps(self.info, sort_keys=True).encode()).hexdigest()[:16]


def open_patches(folder: Path) -> Patches:
    """Open a folder of precomputed patches; nothing is read until it is used.  Raises InputError."""
    if not (folder / "ct.npy").is_file() or not (folder / "mask.npy").is_file():
        raise InputError(
            f"{folder} holds no precomputed patches (ct.npy and mask.npy)",
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
    """Settings and cases of the patches; only their shape where there is no record of them."""
    path = folder / "patches.json"
    if not path.is_file():
        return {"shape": list(shape)}
    try:
        info = serialization.read(path)
    except ValueError as cause:
        raise InputError(f"{path} is not readable JSON ({cause})", remedy="run precompute again") from cause
    if not isinstance(info, dict) or not isinstance(info.get("teacher") or {}, dict):
        raise InputError(f"{path} holds no settings by name", remedy="run precompute again")
    return info


@dataclass(frozen=True, eq=False)
class Batch:
    """What one forward pass needs.

    clean, lung, noise: (B, 1, Z, Y, X) float32.  step: (B,) in 1..T.
    teacher: descriptors, (B, 34) or (B, 34, z, y, x), or None when they are to be computed; in stage 3
    the class of every position, (B, z, y, x).
    """

    clean: Tensor
    lung: Tensor
    noise: Tensor
    step: Tensor
    teacher: Tensor | None

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        put = [tensor.to(device, non_blocking=True) for tensor in (self.clean, self.lung, self.noise)]
        teacher = None if self.teacher is None else self.teacher.to(device, non_blocking=True)
        return Batch(put[0], put[1], put[2], self.step.to(device, non_blocking=True), teacher)

    def pinned(self) -> Batch:
        """The same batch in page-locked memory, from which a GPU copies without the processor."""
        put = [tensor.pin_memory() for tensor in (self.clean, self.lung, self.noise, self.step)]
        return Batch(put[0], put[1], put[2], put[3], None if self.teacher is None else self.teacher.pin_memory())


class BatchSource(Protocol):
    """Where the training loop takes its batches from."""

    def batch(self, iteration: int, micro: int = 0) -> Batch:
        """Micro-batch `micro` of an iteration, as this process sees it."""
        ...


@dataclass(frozen=True)
class Draws:
    """Which patches a process sees, and what is drawn for them. steps: length T of the chain; teacher: stored rows."""

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
        """Draws of the present process."""
        return cls(patches, config, steps, teacher, runtime.rank, runtime.world_size)

    @property
    def global_batch(self) -> int:
        """Patches in one update over all processes and micro-batches."""
        return self.config.batch_size * self.config.accumulate * self.world_size

    def batch(self, iteration: int, micro: int = 0) -> Batch:
        """Micro-batch `micro` of an iteration, as this process sees it."""
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
        """The patch at a place of the global batch: every patch once, in a new order, then again."""
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


_LAST_ORDER: dict[tuple[int, int, int], NDArray[np.int64]] = {}


def _order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Order of the patches in one pass over them; the last two passes are kept."""
    key = (count, seed, epoch)
    if key not in _LAST_ORDER:
        if len(_LAST_ORDER) > 1:
            _LAST_ORDER.pop(next(iter(_LAST_ORDER)))
        _LAST_ORDER[key] = np.random.default_rng([seed, ORDER, epoch]).permutation(count)
    return _LAST_ORDER[key]


def prefetch(items: Iterable[T], depth: int = 3) -> Generator[T, None, None]:
    """Produce items ahead of their use in one thread; errors surface where the item is asked for."""
    ready: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
    stop = threading.Event()

    def put(entry: tuple[str, Any]) -> bool:
        while not stop.is_set():
            try:
                ready.put(entry, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def fill() -> None:
        try:
            for item in items:
                if not put(("item", item)):
                    return
            put(("end", None))
        except BaseException as error:
            put(("error", error))

    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    try:
        while True:
            kind, value = ready.get()
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value
    finally:
        stop.set()
        thread.join()
