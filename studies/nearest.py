"""Memorisation: the distance of a patch to the nearest training patch, in voxels and in descriptors."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from diffseglung.platform import atomic_files, serialization
from diffseglung.platform.config import IntensityConfig, PatchConfig
from diffseglung.platform.errors import InputError
from diffseglung.platform.row_files import StoredRows
from studies.embedding import describe
from studies.frechet import Rows, standardised

SIMULATED = ("phantom", "semi")
"""Name prefixes of cases with simulated patients or lesions."""
CHUNK = 64
Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class TrainingPatches:
    """A folder that `diffseglung precompute` wrote.

    ct: (N, Z, Y, X) model units, read as needed.  lungs: the same, non-zero inside.  cases: (N,) names.
    """

    ct: StoredRows
    lungs: StoredRows
    cases: Array
    digest: str

    @property
    def real(self) -> NDArray[np.bool_]:
        """(N,) mask of the patches of unmodified scans."""
        return np.array([not str(name).startswith(SIMULATED) for name in self.cases])


def open_training(folder: Path, patch: PatchConfig) -> TrainingPatches:
    """Open the patches; InputError for a folder without them, or with patches of another shape or spacing."""
    ct, lungs, names = (StoredRows.open(folder / f"{name}.npy") for name in ("ct", "mask", "patient_ids"))
    path = folder / "patches.json"
    try:
        info = serialization.read(path)
        spacing = info.get("patch", {}).get("spacing_mm")
    except (OSError, ValueError, AttributeError) as cause:
        raise InputError(f"{path} cannot be read ({cause})", remedy="give a folder of precompute") from cause
    cases = np.asarray(names)
    if ct.shape[1:] != patch.shape or lungs.shape != ct.shape or len(cases) != len(ct) or spacing != patch.spacing_mm:
        raise InputError(
            f"{folder} holds patches {ct.shape[1:]} at {spacing} mm, the model {patch.shape} at {patch.spacing_mm}",
            remedy="give the patches that the model was trained on, or cut them again",
        )
    size = (folder / "ct.npy").stat()
    digest = hashlib.sha256(repr([info, ct.shape, size.st_size, size.st_mtime_ns]).encode()).hexdigest()[:16]
    return TrainingPatches(ct, lungs, cases, digest)


def training_descriptors(training: TrainingPatches, intensity: IntensityConfig, store: Path) -> Rows:
    """Descriptors (N, 34) of whole patches, kept in the folder `store`."""
    path = store / f"training_{training.digest}.npy"
    with contextlib.suppress(InputError):  # missing or unreadable: computed again
        return np.asarray(StoredRows.open(path)[:])
    rows = np.concatenate([
        describe(
            np.asarray(training.ct[i : i + CHUNK], np.float32), np.asarray(training.lungs[i : i + CHUNK], np.float32),
            intensity,
        )
        for i in range(0, len(training.ct), CHUNK)
    ])  # fmt: skip
    with atomic_files.written(path) as part, part.open("wb") as file:
        np.save(file, rows)
    return rows


def nearest_voxels(patches: Array, training: Array | StoredRows, own: NDArray[np.int64] | None = None) -> Rows:
    """Smallest root mean square difference (n,) of patches (n, Z, Y, X) to training (N, Z, Y, X), over all eight flips.

    own: (n,) index of each patch in the training set, which is skipped.
    """
    axes = [c for k in range(4) for c in itertools.combinations((1, 2, 3), k)]
    flips = torch.stack([torch.from_numpy(np.asarray(patches, np.float32)).flip(c) for c in axes])  # (8, n, Z, Y, X)
    flips = flips.flatten(2)
    length = flips.square().sum(2)  # (8, n)
    best = torch.full((len(patches),), torch.inf)
    for first in range(0, len(training), CHUNK):
        block = torch.from_numpy(np.asarray(training[first : first + CHUNK], np.float32)).flatten(1)
        square = length[..., None] + block.square().sum(1) - 2 * flips @ block.T  # (8, n, chunk)
        if own is not None:
            for row in np.flatnonzero((own >= first) & (own < first + len(block))):
                square[:, row, int(own[row]) - first] = torch.inf
        best = torch.minimum(best, square.amin((0, 2)))
    return np.asarray((best.clamp(min=0) / flips.shape[2]).sqrt().double().numpy())


def nearest_rows(rows: Rows, training: Rows, own: NDArray[np.int64] | None = None) -> Rows:
    """Smallest distance (n,) of descriptors (n, d) to those of training (N, d), in standard deviations of training."""
    known = np.isfinite(training).all(1)
    base = training[known]
    distance = cdist(standardised(rows, base), standardised(base, base))
    if own is not None:
        place = np.cumsum(known) - 1
        distance[np.arange(len(rows)), place[own]] = np.inf
    return np.asarray(distance.min(1))
