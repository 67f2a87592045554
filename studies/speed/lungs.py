"""The lung mask compared with plain SciPy on the scan's own grid: threshold, components, closing, holes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diffseglung.io import read_volume
from diffseglung.lungs.finder import find_lungs
from diffseglung.volume import Volume
from studies.speed.clock import Row, race
from studies.speed.scans import SIZES, scan_file

AIR_HU, CLOSING_MM, LEAST_SHARE = -300.0, 6.0, 0.02


def rows(folder: Path, *, size: str = "standard", repeats: int = 3) -> list[Row]:
    """One row: our mask and SciPy's, for a scan in memory."""
    ct = read_volume(scan_file(folder, size))
    cost, peer_cost = race(lambda: find_lungs(ct), lambda: lungs_by_scipy(ct), repeats)
    ours, theirs = find_lungs(ct).array > 0, lungs_by_scipy(ct)
    dice = 2 * np.count_nonzero(ours & theirs) / (np.count_nonzero(ours) + np.count_nonzero(theirs))
    return [
        Row(
            part="lungs",
            what=f"lung mask of {SIZES[size].title if size in SIZES else size}",
            cost=cost,
            amount=float(np.prod(ct.shape)) / 1e6,
            unit="Mvoxel",
            peer="SciPy on the scan's own grid, both lungs as one, without airways and dense disease",
            peer_cost=peer_cost,
            note=f"Dice of the two {dice:.3f}",
        )
    ]


def lungs_by_scipy(ct: Volume) -> NDArray[np.bool_]:
    """Large components of air that do not touch the borders of the slices, closed and with holes filled."""
    air = ct.array < AIR_HU
    labels, count = ndimage.label(air)
    outside = np.unique(np.concatenate([labels[:, [0, -1]].ravel(), labels[:, :, [0, -1]].ravel()]))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[outside] = 0
    sizes[0] = 0
    lungs = (sizes > LEAST_SHARE * max(int(sizes.sum()), 1))[labels]
    steps = max(1, round(CLOSING_MM / min(ct.spacing_mm)))
    closed = ndimage.binary_closing(np.pad(lungs, steps), iterations=steps)[(slice(steps, -steps),) * 3]
    return np.stack([ndimage.binary_fill_holes(plane) for plane in closed])
