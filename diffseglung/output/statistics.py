"""Measurements of a segmentation: the content of statistics.json.

Every entry has TotalSegmentator's two keys, `volume` (mm3) and `intensity` (mean HU), so that parsers of its
statistics.json keep working. Fractions are in 0..1. Undefined values (the mean of no voxels) are None.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffseglung.labels import ALL, BACKGROUND, LESIONS, TISSUES, UNASSIGNED
from diffseglung.platform.errors import GeometryError
from diffseglung.platform.out_of_core import slabs
from diffseglung.volume import Volume

SIDES = {"right": 1, "left": 2}
"""Lung -> its value in the lung mask."""
LAA_HU = (-950, -910, -856)
"""Low-attenuation area: share of the lung below each. -950 inspiration, -856 expiration (air trapping; PMC4067052)."""
HAA_HU = (-600, -250)
"""High-attenuation area: share of the lung within (PMC8176866)."""
PERCENTILES = (5, 10, 15, 25, 50, 75, 90, 95)

RANGE_HU, STEP_HU = (-1100.0, 4000.0), 0.1
"""Range and bin width of the histogram of densities: exact for whole HU, and as fine as the percentiles are rounded."""

_CODES = len(ALL)


def measure(
    ct: Volume, lungs: Volume, label_map: Volume, expected_voxels: NDArray[np.float64] | None = None
) -> dict[str, Any]:
    """Volumes, shares and densities of every class, of all lesions together, and of the lungs.

    ct (Z, Y, X) HU, lungs 0/1 right/2 left, label_map ids of `labels`.
    expected_voxels: the posterior summed over the lungs, in the order of `labels.TISSUES` (5,); None if unknown.
    Lung voxels are those inside `lungs`, including vessels and small airways. Raises GeometryError if grids differ.

    >>> ct = Volume(np.array([-850.0, -600.0]).reshape(1, 1, 2), np.diag([10.0, 10.0, 10.0, 1.0]))
    >>> lungs = ct.with_array(np.array([1, 2], np.uint8).reshape(1, 1, 2))
    >>> label_map = ct.with_array(np.array([1, 3], np.uint8).reshape(1, 1, 2))
    >>> measure(ct, lungs, label_map)["ggo"]["left"]
    {'volume': 1000.0, 'intensity': -600.0, 'volume_ml': 1.0, 'fraction_of_lung': 1.0, 'mean_hu': -600.0}
    """
    for other in (lungs, label_map):
        if not ct.same_grid(other):
            raise GeometryError("the scan, its lungs and its label map lie on different grids", remedy="pass one grid")
    counts, sums = np.zeros((3, _CODES), np.int64), np.zeros((3, _CODES))
    tallies = {name: Tally() for name in SIDES}
    for planes in slabs(ct.array, lungs.array, label_map.array):
        for name, side in SIDES.items():
            inside = lungs.array[planes] == side
            hu, ids = ct.array[planes][inside], label_map.array[planes][inside]  # (N,)
            counts[side] += np.bincount(ids, minlength=_CODES)
            sums[side] += np.bincount(ids, weights=hu, minlength=_CODES)
            tallies[name].add(hu)

    def entry(columns: list[int]) -> dict[str, Any]:
        """The entry of a class or group of classes: both lungs, then each."""
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
        **sum(tallies.values(), Tally()).density(),
        "unlabelled_voxels": int(counts[:, BACKGROUND.id].sum()),
    }
    for name in SIDES:
        result["lung"][name] |= tallies[name].density()
    return result


@dataclass(eq=False)
class Tally:
    """Running densitometry of lung voxels.

    counts: histogram in steps of STEP_HU.  total_hu: exact sum.  below: voxels below each of LAA_HU.
    high: voxels within HAA_HU.
    """

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_bin(RANGE_HU[1]) + 1, np.int64))
    total_hu: float = 0.0
    below: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(LAA_HU), np.int64))
    high: int = 0

    def add(self, hu: NDArray[Any]) -> None:
        """Add voxels, HU (N,)."""
        self.counts += np.bincount(_bin(hu), minlength=len(self.counts))
        self.total_hu += float(hu.sum(dtype=np.float64))
        self.below += [np.count_nonzero(hu < limit) for limit in LAA_HU]
        self.high += int(np.count_nonzero((hu >= HAA_HU[0]) & (hu <= HAA_HU[1])))

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.counts + other.counts, self.total_hu + other.total_hu, self.below + other.below, self.high + other.high
        )

    def density(self) -> dict[str, Any]:
        """Mean lung density, LAA, HAA and percentiles (HU, linear between voxels); None without voxels."""
        n = int(self.counts.sum())
        shares = [_round(count / n, 6) if n else None for count in (*self.below, self.high)]
        return {
            "mean_lung_density_hu": _round(self.total_hu / n, 2) if n else None,
            **{f"LAA{limit}": share for limit, share in zip(LAA_HU, shares, strict=False)},
            "HAA": shares[-1],
            "percentiles_hu": {str(p): _round(self._percentile(p), 1) if n else None for p in PERCENTILES},
        }

    def _percentile(self, percent: float) -> float:
        """Linear between the two nearest ranks, as numpy.percentile."""
        cumulative = self.counts.cumsum()
        place = percent / 100 * (int(cumulative[-1]) - 1)
        low, high = (np.searchsorted(cumulative, int(rank), side="right") for rank in (place, np.ceil(place)))
        at = low + (high - low) * (place - int(place))
        return float(RANGE_HU[0] + at * STEP_HU)


def _bin(hu: Any) -> Any:
    """Index of HU in `Tally.counts`, clipped to RANGE_HU."""
    return np.rint((np.clip(hu, *RANGE_HU, dtype=np.float64) - RANGE_HU[0]) / STEP_HU).astype(np.int64)


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
    """A plain number for JSON; None if it is unknown."""
    return round(float(value), digits) if value is not None and np.isfinite(value) else None
