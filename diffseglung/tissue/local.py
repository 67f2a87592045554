"""Local statistics on a coarse grid of lung positions, in physical units: the baseline for learned features.

Quantiles instead of means, because vessels affect only the upper quantiles while disease raises the lower quartile; on
the aligned HU scale (`case.alignment`) and lung voxels only, so that vessels, pleura and inspiration do not resemble
disease.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diffseglung.case.alignment import REFERENCE_HU
from diffseglung.case.positions import Positions
from diffseglung.platform.runtime import spread, started
from diffseglung.tissue.hessian import MEASURES, structure

Rows = NDArray[np.float32]
QUANTILES = (0.10, 0.25, 0.50, 0.75, 0.90)
NEAR_MM, FAR_MM = 5.0, 10.0
CHUNK = 8000
"""Positions described at once."""
SIGMAS_MM = (1.0, 2.5)
"""Scales of structure; the first is about the finest on a 1.5 mm grid: strands and the cells between are small."""

NAMES = (
    *(f"near_q{int(100 * q)}" for q in QUANTILES),
    *(f"far_q{int(100 * q)}" for q in QUANTILES),
    "near_sd", "near_skew", "near_below_950", "near_haze", "near_dense", "core_q50",
    *(f"{name}_{i}" for i in range(len(SIGMAS_MM)) for name in MEASURES),
    *(f"far_{name}" for name in MEASURES),
    "border_mm",
)  # fmt: skip
"""Columns of the local descriptors. HU columns are aligned HU; `border_mm` is the depth below the lung surface."""
HEAVY_TAILED = tuple(
    i for i, name in enumerate(NAMES) if name.split("_")[0] in ("plate", "tube", "dark") or name == "near_sd"
)
FAR_STRUCTURE = tuple(i for i, name in enumerate(NAMES) if name in [f"far_{m}" for m in MEASURES])
RELATIVE = ("near_q25", "near_q50", "near_q75", "far_q25", "far_q50")
"""Columns also given in units of the scan's spread of healthy medians."""


def healthy_spread(local: Rows) -> float:
    """Scatter of the local medians of healthy lung in this scan, in aligned HU.

    The 68 % width of the medians on the narrower side of the healthy level: emphysema widens one side, haze the other.
    """
    gap = local[:, NAMES.index("near_q50")] - REFERENCE_HU
    sides = [-gap[(gap <= 0) & (gap > -80)], gap[(gap > 0) & (gap < 80)]]
    widths = [float(np.quantile(side, 0.68)) for side in sides if len(side) >= 50]
    return float(np.clip(min(widths, default=20.0), 6.0, 40.0))


OWN = ("near_q25", "far_q25", "far_dark_blob")
"""Columns also given relative to the scan's healthy lung."""
DARKEST_BLOB_HU = 0.02
FEWEST_HEALTHY = 50
SHAPED_NAMES = (*NAMES, *(f"{name}_relative" for name in RELATIVE), *(f"{name}_own" for name in OWN))
"""Columns of `shaped`."""


def own_healthy(local: Rows) -> Rows:
    """Value of each column in this scan's healthy lung (len(NAMES),): its median where the local median is healthy.

    Noise and kernel change lower quantiles and structure, but not the median that aligned the scan. Healthy are local
    medians within 20 HU of the reference, or the nearest `FEWEST_HEALTHY` if there are fewer. The lower quantiles of
    healthy lung are at most the reference, even in a scan without healthy lung.
    """
    gap = np.abs(local[:, NAMES.index("near_q50")] - REFERENCE_HU)
    count = min(max(int((gap < 20).sum()), FEWEST_HEALTHY), len(local))
    median: Rows = np.median(local[np.argpartition(gap, count - 1)[:count]], axis=0)
    lower = [i for i, name in enumerate(NAMES) if name.endswith(("_q10", "_q25"))]
    median[lower] = np.minimum(median[lower], REFERENCE_HU)
    return median


def from_own_healthy(local: Rows) -> Rows:
    """The columns `OWN` relative to `own_healthy`, (N, 3): differences in HU, a log ratio for dark blobs."""
    own = own_healthy(local)
    columns = []
    for name in OWN:
        at = NAMES.index(name)
        if name == "far_dark_blob":
            columns.append(np.log(np.maximum(local[:, at], DARKEST_BLOB_HU) / max(own[at], DARKEST_BLOB_HU)))
        else:
            columns.append(local[:, at] - own[at])
    return np.column_stack(columns).astype(np.float32)


def shaped(local: Rows) -> Rows:
    """Local descriptors of a whole scan as input of a classifier, (N, len(SHAPED_NAMES)).

    Logarithms of heavy-tailed columns, depth limited to 12 mm; then density columns again, relative to the healthy
    level in units of `healthy_spread` (a quiet scan shows mild emphysema that a noisy one hides); then those of
    `from_own_healthy`.
    """
    rows = local.copy()
    heavy = [*HEAVY_TAILED, *FAR_STRUCTURE]
    rows[:, heavy] = np.log1p(np.maximum(rows[:, heavy], 0))
    rows[:, -1] = np.minimum(rows[:, -1], 12.0)
    density = local[:, [NAMES.index(name) for name in RELATIVE]]
    relative = np.clip((density - REFERENCE_HU) / healthy_spread(local), -12, 12)
    return np.hstack([rows, relative, from_own_healthy(local)]).astype(np.float32)


def ball(radius_voxels: float, thin: int = 1) -> NDArray[np.int64]:
    """Offsets (M, 3) within a radius; `thin` n keeps one voxel in n, as on a checkerboard.

    >>> len(ball(1.0)), len(ball(1.0, thin=2))
    (7, 1)
    """
    reach = int(np.ceil(radius_voxels))
    grid = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
    keep = (grid**2).sum(1) <= radius_voxels**2
    if thin > 1:
        keep &= grid.sum(1) % thin == 0
    offsets: NDArray[np.int64] = grid[keep]
    return offsets


class Neighbourhoods:
    """Values of a volume (Z, Y, X) at fixed offsets (M, 3) from voxels; NaN beyond its faces."""

    def __init__(self, volume: Rows, offsets: NDArray[np.int64]) -> None:
        self.reach = int(np.abs(offsets).max())
        padded = np.pad(volume, self.reach, constant_values=np.nan)
        self.strides = np.array([padded.shape[1] * padded.shape[2], padded.shape[2], 1])
        self.values, self.steps = padded.ravel(), offsets @ self.strides

    def at(self, voxels: NDArray[np.int64]) -> Rows:
        """(N, M) around voxels (N, 3)."""
        flat = (voxels + self.reach) @ self.strides
        found: Rows = self.values.take(flat[:, None] + self.steps)
        return found


def masked_quantiles(values: Rows, quantiles: tuple[float, ...]) -> Rows:
    """Nearest-rank quantiles (N, Q) of each row's finite values; NaN where a row has none."""
    ordered = np.sort(values, axis=1)  # NaN last
    count = np.isfinite(ordered).sum(1)
    rank = np.rint(np.asarray(quantiles)[None] * (np.maximum(count, 1) - 1)[:, None]).astype(np.int64)
    return np.take_along_axis(ordered, rank, axis=1)


def _near(values: Rows) -> Rows:
    """Quantiles, spread and aeration shares of each neighbourhood, (N, 10)."""
    known = np.isfinite(values)
    count = np.maximum(known.sum(1), 1)
    quantile = masked_quantiles(values, QUANTILES)
    centre = np.where(known, values, 0).sum(1) / count.astype(np.float32)
    gap = np.where(known, values - centre[:, None], 0)
    square = gap * gap
    sd = np.sqrt(square.sum(1) / count)
    skew = (square * gap).sum(1) / count / np.maximum(sd, 5.0) ** 3
    shares = [(values < -950).sum(1), ((values > -720) & (values < -300)).sum(1), (values >= -300).sum(1)]
    return np.column_stack([quantile, sd, skew, *[share / count for share in shares]]).astype(np.float32)


def fill_outside(hu: Rows, inside: NDArray[np.bool_]) -> Rows:
    """HU with everything outside replaced by the nearest inside value, so that the border is no edge."""
    index = ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
    filled: Rows = hu[tuple(index)]
    return filled


def local_descriptors(hu: Rows, lungs: NDArray[np.bool_], spacing_mm: float, where: Positions) -> Rows:
    """Rows (N, len(NAMES)) for aligned HU (Z, Y, X) on an isotropic grid.

    Statistics exclude the outermost lung voxels (partial volume); a position without any other takes the nearest value
    inside.
    """
    inside = ndimage.binary_erosion(lungs, ndimage.generate_binary_structure(3, 1))
    inside = inside if inside.any() else lungs
    at = np.minimum(where.voxel, np.array(hu.shape) - 1)
    depth = started(lambda: ndimage.distance_transform_edt(np.pad(lungs, 1))[tuple(at.T + 1)] * spacing_mm)
    filled = fill_outside(hu, inside)
    structures = started(lambda: _structure_rows(filled, inside, spacing_mm, at))
    masked = np.where(inside, filled, np.nan).astype(np.float32)
    near = Neighbourhoods(masked, ball(NEAR_MM / spacing_mm))
    far = Neighbourhoods(masked, ball(FAR_MM / spacing_mm, thin=3))
    core = Neighbourhoods(filled, ball(2.3 / spacing_mm))

    def columns(start: int) -> Rows:
        here = at[start : start + CHUNK]
        values, wide = near.at(here), far.at(here)
        for around in (values, wide):
            around[:, 0] = np.where(np.isfinite(around).any(1), around[:, 0], filled[tuple(here.T)])
        n, middle = _near(values), masked_quantiles(core.at(here), (0.5,))
        return np.hstack([n[:, :5], masked_quantiles(wide, QUANTILES), n[:, 5:], middle])

    statistics = np.vstack(list(spread(columns, range(0, len(at), CHUNK))))
    return np.hstack([statistics, structures(), depth()[:, None]]).astype(np.float32)


def _structure_rows(filled: Rows, inside: NDArray[np.bool_], spacing_mm: float, at: NDArray[np.int64]) -> Rows:
    """Mean plate, tube and dark-blob strength near each position at each scale, and far around it, (N, 9)."""
    place = tuple(at.T)

    def mean_around(volume: Rows, reach_mm: float) -> Rows:
        smooth: Rows = ndimage.gaussian_filter(volume, reach_mm / spacing_mm)[place]
        return smooth

    weights = {reach: np.maximum(mean_around(inside.astype(np.float32), reach), 1e-3) for reach in (3.0, 8.0)}
    volumes = list(spread(lambda sigma_mm: structure(filled, inside, sigma_mm / spacing_mm), SIGMAS_MM))
    wanted = [(volume, 3.0) for measures in volumes for volume in measures.values()]
    wanted += [(volume, 8.0) for volume in volumes[0].values()]
    return np.column_stack(list(spread(lambda pair: mean_around(*pair) / weights[pair[1]], wanted)))
