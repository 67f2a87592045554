"""K-means on the radiomics of overlapping patches: the teacher alone, without a model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

from diffseglung.case.prepared import prepare_scan
from diffseglung.case.resample import resample_onto
from diffseglung.method.radiomics.dense import describe_dense
from diffseglung.method.radiomics.descriptor import DESCRIPTOR_NAMES
from diffseglung.platform.config import ClusterConfig
from diffseglung.platform.errors import InputError
from diffseglung.volume import Volume

LIMIT = 4.0
"""Standardised descriptors are clipped to +-LIMIT, so that a few hilar patches do not form clusters."""


@dataclass(frozen=True)
class Cluster:
    """One cluster: `id` in the map (1 is the darkest), its volume and its mean descriptor in physical units.

    volume_ml, fraction_of_lung, mean_hu and sd_hu are of its lung voxels in the scan; patches: their number.
    """

    id: int
    volume_ml: float
    fraction_of_lung: float
    mean_hu: float
    sd_hu: float
    patches: int
    centre: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain values; unknown ones are None."""
        values = asdict(self)
        return {name: None if isinstance(v, float) and np.isnan(v) else v for name, v in values.items()}


def cluster_volume(
    ct: Volume, lungs: Volume, k: int = 5, seed: int = 0, *, config: ClusterConfig | None = None
) -> tuple[Volume, list[Cluster]]:
    """Cluster the lungs of a scan: a map of ids (0 outside the lungs, 1..k from dark to bright) and the clusters.

    ct: HU on any grid.  lungs: non-zero inside, same grid.  k and seed override those of `config`.
    Windows are at least 25 % lung; a voxel takes the cluster of largest weight among the patches around it.
    Raises InputError if the lungs are too small for k clusters.
    """
    config = config or ClusterConfig()
    prepared = prepare_scan(ct, lungs, config.spacing_mm, step=config.stride)
    hu, inside = torch.from_numpy(np.ascontiguousarray(prepared.hu)), torch.from_numpy(prepared.lungs)
    described = describe_dense(hu[None], inside[None], stride=config.stride, window=config.window)[0].numpy()
    known = np.isfinite(described).all(0)  # (z, y, x)
    rows = described[:, known].T.astype(np.float64)  # (N, 34)
    labels = kmeans(rows, k, seed, weighting=config.weighting)  # (N,), 1..k
    grid = np.zeros(known.shape, np.int64)
    grid[known] = labels
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    model_map = Volume(_onto_voxels(grid[tuple(nearest)], k, hu.shape, config.stride), prepared.grid.affine)
    ids = np.where(lungs.array > 0, resample_onto(model_map, ct, order=0, fill=0).array, 0).astype(np.uint8)
    ids = _fill_gaps(ids, lungs.array > 0)
    return ct.with_array(ids), measure(ct, ids, rows, labels, k)


def kmeans(rows: NDArray[np.float64], k: int, seed: int, *, weighting: str = "families") -> NDArray[np.int64]:
    """Cluster number 1..k of each descriptor (N, 34), standardised; clusters in order of their mean HU.

    weighting: "families" gives HU, GLCM, LBP and Gabor equal weight, so that the 23 correlated LBP and Gabor values do
    not outvote density; "published" gives every descriptor equal weight.
    """
    from sklearn.cluster import KMeans

    if len(np.unique(rows.round(6), axis=0)) < k:
        raise InputError(
            f"the lungs have {len(rows)} patches, too few different ones for {k} clusters",
            remedy="use a smaller --k, or check the lung mask",
        )
    scale = rows.std(0)
    standard = ((rows - rows.mean(0)) / np.where(scale > 1e-9, scale, 1.0)).clip(-LIMIT, LIMIT)
    if weighting == "families":
        families = [name.partition("_")[0] for name in DESCRIPTOR_NAMES]
        standard = standard / np.sqrt([families.count(family) for family in families])
    found = KMeans(k, n_init=4, random_state=seed).fit_predict(standard)
    order = np.argsort([rows[found == number, 0].mean() for number in range(k)])
    return np.asarray(np.argsort(order)[found] + 1, np.int64)


def measure(
    ct: Volume, ids: NDArray[np.uint8], rows: NDArray[np.float64], labels: NDArray[np.int64], k: int
) -> list[Cluster]:
    """The clusters: volumes from the voxels of the scan, centres from the patches."""
    table, lung = [], max(1, int((ids > 0).sum()))
    for number in range(1, k + 1):
        hu = ct.array[ids == number]
        mean, sd = (float(hu.mean()), float(hu.std())) if hu.size else (float("nan"), float("nan"))
        mine = rows[labels == number]
        centre = dict(zip(DESCRIPTOR_NAMES, mine.mean(0).tolist(), strict=True))
        table.append(Cluster(number, hu.size * ct.voxel_ml, hu.size / lung, mean, sd, len(mine), centre))
    return table


def _onto_voxels(grid: NDArray[np.int64], k: int, shape: torch.Size, stride: int) -> NDArray[np.uint8]:
    """Cluster of every voxel: votes of the patches around it, weighted linearly by distance (ties: the darker)."""
    best = torch.zeros(tuple(n * stride for n in grid.shape))
    chosen = torch.zeros(best.shape, dtype=torch.uint8)
    for number in range(1, k + 1):
        votes = torch.from_numpy(grid == number).float()[None, None]
        weight = functional.interpolate(votes, size=tuple(best.shape), mode="trilinear")[0, 0]
        better = weight > best
        best, chosen = torch.where(better, weight, best), torch.where(better, number, chosen)
    rest = [(0, n - m) for n, m in zip(shape, chosen.shape, strict=True)]
    return np.asarray(np.pad(chosen.numpy(), rest, mode="edge"), np.uint8)


def _fill_gaps(ids: NDArray[np.uint8], inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Lung voxels beyond the model grid take the nearest cluster."""
    if not (inside & (ids == 0)).any():
        return ids
    nearest = ndimage.distance_transform_edt(ids == 0, return_distances=False, return_indices=True)
    return np.where(inside, ids[tuple(nearest)], 0).astype(np.uint8)
