"""Trachea and main bronchi, grown from the tracheal air column without leaking into the lung.

The threshold is raised until the volume jumps: Mori et al., IEEE Trans Biomed Eng 2000;47:1516, and the "explosion
control" of later airway work.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from diffseglung.lungs.coarse import Coarse, Mask, Spacing, bounds, components, padded, within

COLUMN_HU = -850.0
"""Block means of tracheal air are below this; those with wall are not."""
AREA_MM2 = (30.0, 800.0)
LEAST_COLUMN_MM = 20.0
THRESHOLDS_HU = range(-990, -840, 10)
LARGEST_ML, LARGEST_STEP_ML = 130.0, 15.0
WALL_MM = 2.6
REACH_MM = 30.0
"""Initial margin of the box in which airways are grown."""


def find_airways(coarse: Coarse, inside: Mask) -> Mask:
    """Trachea and main bronchi with their walls (Z, Y, X); empty if there is no tracheal column.

    inside: voxels within the body; air outside is ignored.
    """
    column = _tracheal_column(coarse, inside)
    if not column.any():
        column = _tracheal_column(coarse, inside, off_middle=0.5)  # half a thorax
    if not column.any():
        return column
    airways, previous = column, float(column.sum()) * coarse.voxel_ml
    for threshold in THRESHOLDS_HU:
        grown = _grown(airways, (coarse.hu < threshold) & inside, coarse)
        volume = float(grown.sum()) * coarse.voxel_ml
        if volume > LARGEST_ML or volume > previous + LARGEST_STEP_ML:
            break
        airways, previous = grown, volume
    return within(airways, WALL_MM, coarse.spacing_mm)


def _grown(seed: Mask, air: Mask, coarse: Coarse) -> Mask:
    """The seed and the air connected to it; of more than LARGEST_ML a part larger than that.

    The search box around the seed grows until it contains the whole.
    """
    start, reach_mm = bounds(seed), REACH_MM
    while True:
        box = padded(start, [int(reach_mm / mm) for mm in coarse.spacing_mm], air.shape)
        labels, sizes = components(air[box] | seed[box])
        chosen = np.isin(np.arange(len(sizes)), labels[seed[box]])
        found = bounds(chosen[labels])
        shut = all(f.start > 0 or b.start == 0 for f, b in zip(found, box, strict=True)) and all(
            b.start + f.stop < b.stop or b.stop == n for f, b, n in zip(found, box, air.shape, strict=True)
        )
        if shut or sizes[chosen].sum() * coarse.voxel_ml > LARGEST_ML:
            grown = np.zeros_like(seed)
            grown[box] = chosen[labels]
            return grown
        reach_mm *= 2


def _tracheal_column(coarse: Coarse, inside: Mask, off_middle: float = 0.2) -> Mask:
    """The longest chain of small, compact, overlapping air discs in the upper part of the scan.

    off_middle: largest distance from the body's middle, as a share of its width.
    """
    air = (coarse.hu < COLUMN_HU) & inside
    lowest = int(0.3 * len(air))
    best: list[tuple[int, Mask]] = []
    open_chains: list[list[tuple[int, Mask]]] = []
    for z in range(len(air) - 1, lowest - 1, -1):
        discs = _discs(air[z], inside[z], coarse.spacing_mm, off_middle)
        going_on = []
        for disc in discs:
            before = [c for c in open_chains if (c[-1][1] & disc).any() and disc.sum() < 2.5 * c[-1][1].sum()]
            chain = [*max(before, key=len, default=[]), (z, disc)]
            going_on.append(chain)
            if len(chain) > len(best):
                best = chain
        open_chains = going_on
    column = np.zeros_like(air)
    if len(best) * coarse.spacing_mm[0] >= LEAST_COLUMN_MM:
        for z, disc in best:
            column[z] = disc
    return column


def _discs(air: Mask, inside: Mask, spacing_mm: Spacing, off_middle: float) -> list[Mask]:
    """Components of a slice (Y, X) with the area and compactness of a trachea, near the middle of the body."""
    labels, count = ndimage.label(air)
    if not count:
        return []
    columns = np.flatnonzero(inside.any(axis=0))
    middle, width = (columns[0] + columns[-1]) / 2, columns[-1] - columns[0] + 1
    pixel = spacing_mm[1] * spacing_mm[2]
    found = []
    for index, box in enumerate(ndimage.find_objects(labels), start=1):
        part = labels[box] == index
        area, (height, breadth) = part.sum() * pixel, part.shape
        aspect = (height * spacing_mm[1]) / (breadth * spacing_mm[2])
        centre = (box[1].start + box[1].stop - 1) / 2
        if not AREA_MM2[0] <= area <= AREA_MM2[1] or not 0.4 <= aspect <= 2.5:
            continue
        if part.mean() >= 0.5 and abs(centre - middle) <= off_middle * width:
            found.append(labels == index)
    return found
