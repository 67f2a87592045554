"""Measurements of a segmentation: what statistics.json holds.

Every entry of the result carries TotalSegmentator's two keys, `volume` (mm3) and `intensity` (mean HU), so that parsers
of its statistics.json go on working. Fractions lie in 0..1. What cannot be known (the mean of nothing) is None.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffseglung.errors import GeometryError
from diffseglung.labels import ALL, BACKGROUND, LESIONS, TISSUES, UNASSIGNED
from diffseglung.volume import Volume

SIDES = {"right": 1, "left": 2}
"""Lung -> its value in the lung mask."""
LAA_HU = (-950, -910, -856)
"""Low-attenuation area: share of the lung below each. -950 inspiration, -856 expiration (air trapping; PMC4067052)."""
HAA_HU = (-600, -250)
"""High-attenuation area: share of the lung within (PMC8176866)."""
PERCENTILES = (5, 10, 15, 25, 50, 75, 90, 95)

_CODES = len(ALL)


def measure(
    ct: Volume, lungs: Volume, label_map: Volume, expected_voxels: NDArray[np.float64] | None = None
) -> dict[str, Any]:
    """Volumes, shares and densities of every class, of all lesions together, and of the lungs.

    ct (Z, Y, X) HU, lungs 0/1 right/2 left, label_map ids of `labels`.
    expected_voxels: the posterior summed over the lungs, in the order of `labels.TISSUES` (5,); None where unknown.
    Lung voxels are those inside `lungs`, vessels and small airways included. GeometryError when the grids differ.
    """
    for other in (lungs, label_map):
        if not ct.same_grid(other):
            raise GeometryError("the scan, its lungs and its label map lie on different grids", remedy="pass one grid")
    inside = lungs.array > 0
    hu = np.asarray(ct.array[inside], np.float64)  # (N,)
    side = np.asarray(lungs.array[inside], np.int64)
    ids = np.asarray(label_map.array[inside], np.int64)
    cells = _CODES * 3
    index = side * _CODES + ids
    counts = np.bincount(index, minlength=cells).reshape(3, _CODES)
    sums = np.bincount(index, weights=hu, minlength=cells).reshape(3, _CODES)

    def entry(columns: list[int]) -> dict[str, Any]:
        """One class or group of classes: both lungs, then each."""
        n, total = counts[:, columns].sum(1), sums[:, columns].sum(1)
        whole = _amount(n.sum(), total.sum(), counts.sum(), ct.voxel_ml)
        parts = {name: _amount(n[s], total[s], counts[s].sum(), ct.voxel_ml) for name, s in SIDES.items()}
        return {**whole, **parts}

    shown = [label for label in (*TISSUES, UNASSIGNED) if label is not UNASSIGNED or counts[:, label.id].any()]
    result = {label.name: entry([label.id]) for label in shown}
    for column, label in enumerate(TISSUES):
        expected = None if expected_voxels is None else expected_voxels[column] * ct.voxel_ml
        result[label.name]["expected_volume_ml"] = _round(expected, 3)
    result["lesions"] = entry([label.id for label in LESIONS])
    result["lung"] = {
        **entry(list(range(_CODES))),
        **density(hu),
        "unlabelled_voxels": int(counts[:, BACKGROUND.id].sum()),
    }
    for name, value in SIDES.items():
        result["lung"][name] |= density(hu[side == value])
    return result


def density(hu: NDArray[np.floating[Any]]) -> dict[str, Any]:
    """Densitometry of lung voxels, HU (N,): mean lung density, LAA, HAA, percentiles (HU). None where N is 0."""
    n = len(hu)

    def share(chosen: NDArray[np.bool_]) -> float | None:
        return _round(np.count_nonzero(chosen) / n, 6) if n else None

    values = np.percentile(hu, PERCENTILES) if n else [None] * len(PERCENTILES)
    return {
        "mean_lung_density_hu": _round(hu.mean(), 2) if n else None,
        **{f"LAA{limit}": share(hu < limit) for limit in LAA_HU},
        "HAA": share((hu >= HAA_HU[0]) & (hu <= HAA_HU[1])),
        "percentiles_hu": {str(p): _round(v, 1) for p, v in zip(PERCENTILES, values, strict=True)},
    }


def _amount(count: int, total_hu: float, lung_count: int, voxel_ml: float) -> dict[str, Any]:
    mean = _round(total_hu / count, 2) if count else None
    return {
        "volume": _round(count * voxel_ml * 1000, 1),
        "intensity": mean,
        "volume_ml": _round(count * voxel_ml, 3),
        "fraction_of_lung": _round(count / lung_count, 6) if lung_count else None,
        "mean_hu": mean,
    }


def _round(value: Any, digits: int) -> float | None:
    """A plain number for JSON; None for what is unknown."""
    return round(float(value), digits) if value is not None and np.isfinite(value) else None
