"""Baselines in common use, on the same scans and lung masks: HU bands, a fixed HU mixture, k-means on radiomics.

Each takes a CT in HU and a lung mask (anything but 0 is lung) and returns a label map on the same grid.
HU alone cannot distinguish fibrosis from ground glass: the first three never return fibrosis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diffseglung.case.resample import resample, resample_onto
from diffseglung.labels import CONSOLIDATION, EMPHYSEMA, FIBROSIS, GGO, HEALTHY
from diffseglung.volume import Shape, Volume

Field = NDArray[np.float32]

SLICER_BANDS = (-950.0, -750.0, -400.0, 0.0)
"""3D Slicer's LungCTAnalyzer: emphysema | inflated | infiltration | collapsed | vessel."""
MEDIAN_BANDS = (-920.0, -700.0, -300.0)
"""Normal lung in HRCT -700..-920 (10.1007/978-3-030-16315-0_5); ground glass / consolidation -300
(10.1186/s12879-021-06556-z)."""
MEDIAN_MM = 4.0
MIXTURE_MEANS = (-950.4, -829.0, -652.3, -337.0, -12.5)
MIXTURE_SDS = (44.0, 58.0, 94.0, 157.0, 194.0)
MIXTURE_WEIGHTS = (0.339, 0.362, 0.139, 0.055, 0.106)
MIXTURE_LABELS = (EMPHYSEMA.id, HEALTHY.id, GGO.id, CONSOLIDATION.id, CONSOLIDATION.id)


def hu_bands_slicer(ct: Volume, lungs: Volume) -> Volume:
    """HU bands of LungCTAnalyzer: infiltration becomes GGO, collapsed consolidation, vessel healthy."""
    ids = np.array([EMPHYSEMA.id, HEALTHY.id, GGO.id, CONSOLIDATION.id, HEALTHY.id], np.uint8)
    return _in_lungs(lungs, lambda box: ids[np.digitize(ct.array[box], SLICER_BANDS)])


def hu_bands_median(ct: Volume, lungs: Volume) -> Volume:
    """MEDIAN_BANDS after a median filter about MEDIAN_MM wide."""
    ids = np.array([EMPHYSEMA.id, HEALTHY.id, GGO.id, CONSOLIDATION.id], np.uint8)
    size = [2 * int(MEDIAN_MM / 2 / s) + 1 for s in ct.spacing_mm]
    return _in_lungs(lungs, lambda box: ids[np.digitize(_median(ct, box, size), MEDIAN_BANDS)])


def fixed_mixture(ct: Volume, lungs: Volume) -> Volume:
    """The five fixed Gaussians of DensityLungSegmentation after its median filter of 4 voxels."""
    mean, sd = np.array(MIXTURE_MEANS), np.array(MIXTURE_SDS)
    hu = np.arange(-1100, 1001, dtype=np.float64)
    likelihood = np.log(MIXTURE_WEIGHTS) - np.log(sd) - 0.5 * ((hu[:, None] - mean) / sd) ** 2
    table = np.array(MIXTURE_LABELS, np.uint8)[likelihood.argmax(1)]

    def label(box: tuple[slice, ...]) -> NDArray[np.uint8]:
        index = np.clip(np.rint(_median(ct, box, [4, 4, 4])), -1100, 1000).astype(int) + 1100
        return np.asarray(table[index], np.uint8)

    return _in_lungs(lungs, label)


def kmeans_radiomics(
    ct: Volume, lungs: Volume, *, clusters: int = 5, spacing_mm: float = 1.5, patch: int = 16, seed: int = 0
) -> Volume:
    """K-means on the 34 radiomics of half-overlapping cubic patches; each voxel gets the majority label of its patches.

    A cluster is named by the mean HU of its patches with MEDIAN_BANDS; of two or more in the ground-glass band the
    one with the largest variation of HU is called fibrosis.
    """
    coarse = resample(ct.with_array(ct.array.astype(np.float32)), spacing_mm)
    inside = resample_onto(ct.with_array((lungs.array > 0).astype(np.uint8)), coarse, order=0).array > 0
    corners = _corners(inside, patch)
    described = _describe(coarse.array, inside, corners, patch)
    known = np.isfinite(described).all(1)
    corners, described = corners[known], described[known]
    if len(corners) < clusters:
        return lungs.with_array(np.where(lungs.array > 0, HEALTHY.id, 0).astype(np.uint8))
    spread = described.std(0)
    rows = (described - described.mean(0)) / np.where(spread > 0, spread, 1)
    from sklearn.cluster import KMeans  # heavy import, needed here only

    cluster = KMeans(clusters, n_init=4, random_state=seed).fit(rows).labels_
    names = _cluster_names(described, cluster, clusters)
    votes = np.zeros((6, *inside.shape), np.uint8)
    for (z, y, x), c in zip(corners, cluster, strict=True):
        votes[names[c], z : z + patch, y : y + patch, x : x + patch] += 1
    votes[HEALTHY.id] += votes.sum(0) == 0
    answer = coarse.with_array(votes.argmax(0).astype(np.uint8))
    fine = resample_onto(answer, ct.with_array(lungs.array), order=0, fill=HEALTHY.id).array
    return lungs.with_array(np.where(lungs.array > 0, np.maximum(fine, HEALTHY.id), 0).astype(np.uint8))


BASELINES: dict[str, Callable[[Volume, Volume], Volume]] = {
    "hu_bands_slicer": hu_bands_slicer,
    "hu_bands_median": hu_bands_median,
    "fixed_mixture": fixed_mixture,
    "kmeans_radiomics": kmeans_radiomics,
}
"""name -> function (ct, lungs) -> label map."""


def _in_lungs(lungs: Volume, label: Callable[[tuple[slice, ...]], NDArray[np.uint8]]) -> Volume:
    """A label map that is `label(box)` inside the lungs and 0 outside; works in the bounding box of the lungs."""
    mask = lungs.array > 0
    out = np.zeros(lungs.shape, np.uint8)
    if mask.any():
        box = ndimage.find_objects(mask.astype(np.uint8))[0]
        out[box] = np.where(mask[box], label(box), 0)
    return lungs.with_array(out)


def _median(ct: Volume, box: tuple[slice, ...], size: list[int]) -> Field:
    """Median-filtered HU in a box, with the voxels around it, as in the whole scan."""
    wide = tuple(slice(max(s.start - k, 0), s.stop + k) for s, k in zip(box, size, strict=True))
    inner = tuple(slice(s.start - w.start, s.stop - w.start) for s, w in zip(box, wide, strict=True))
    values = np.clip(np.rint(ct.array[wide]), -1100, 1000).astype(np.int16)
    return np.asarray(ndimage.median_filter(values, size=size)[inner], np.float32)


def _corners(inside: NDArray[np.bool_], patch: int) -> NDArray[np.int64]:
    """Corners of patches at half-patch steps with at least a tenth of lung."""
    steps = [np.arange(0, max(n - patch, 0) + patch // 2, patch // 2) for n in inside.shape]
    grid = np.stack(np.meshgrid(*steps, indexing="ij"), -1).reshape(-1, 3)
    share = [inside[z : z + patch, y : y + patch, x : x + patch].sum() / patch**3 for z, y, x in grid]
    return np.asarray(grid[np.asarray(share) >= 0.1], np.int64)


def _describe(hu: Field, inside: NDArray[np.bool_], corners: NDArray[np.int64], patch: int) -> NDArray[np.float64]:
    """Radiomics (N, 34) of the patches; NaN if undefined."""
    import torch

    from diffseglung.method.radiomics.descriptor import describe_batch

    shape: Shape = (patch, patch, patch)
    described = []
    for first in range(0, len(corners), 64):
        values = np.full((len(corners[first : first + 64]), *shape), -1000, np.float32)
        mask = np.zeros(values.shape, bool)
        for i, (z, y, x) in enumerate(corners[first : first + 64]):
            cube = (slice(z, z + patch), slice(y, y + patch), slice(x, x + patch))
            fits = tuple(slice(0, n) for n in hu[cube].shape)
            values[i][fits], mask[i][fits] = hu[cube], inside[cube]
        described.append(describe_batch(torch.from_numpy(values), torch.from_numpy(mask)).cpu().numpy())
    return np.concatenate(described).astype(np.float64) if described else np.empty((0, 34))


def _cluster_names(described: NDArray[np.float64], cluster: NDArray[Any], clusters: int) -> NDArray[np.int64]:
    """Label id of every cluster from its mean HU (descriptor 0) and its mean sd of HU (descriptor 1)."""
    ids = np.array([EMPHYSEMA.id, HEALTHY.id, GGO.id, CONSOLIDATION.id])
    mean = np.array([described[cluster == c, 0].mean() for c in range(clusters)])
    spread = np.array([described[cluster == c, 1].mean() for c in range(clusters)])
    names = ids[np.digitize(mean, MEDIAN_BANDS)]
    hazy = np.flatnonzero(names == GGO.id)
    if len(hazy) > 1:
        names[hazy[np.argmax(spread[hazy])]] = FIBROSIS.id
    return np.asarray(names, np.int64)
