"""Right and left lung by position in the patient (right = smaller LPS x), cut where they touch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diffseglung.lungs.coarse import Coarse, Mask, body_mask, bounds, components

RIGHT, LEFT = 1, 2
EROSIONS_MM = (0.0, 2.0, 4.0, 6.0, 8.0, 11.0, 14.0)
LEAST_SHARE = 0.08
"""Smallest share of both lungs that counts as a second lung."""
CUT_SHARE = 0.5
"""In a scan of half a thorax, the body's sections at the two ends of x differ by this share of its widest one."""
LEAST_OFFSET = 0.3
"""Two parts are two lungs if their centres are this far apart in x, as a share of their joint width."""


def side_field(lungs: Mask, coarse: Coarse) -> NDArray[np.uint8]:
    """1 right or 2 left for every voxel of the canonical grid, by the nearest core of either lung.

    The cores remain after erosion has separated the lungs, so the cut runs through their contact.
    """
    box = bounds(lungs)
    depth = ndimage.distance_transform_edt(np.pad(lungs[box], 1, mode="edge"), sampling=coarse.spacing_mm)
    for reach in EROSIONS_MM:
        cores = _two_cores(depth[1:-1, 1:-1, 1:-1] > reach)
        if cores is not None:
            nearest = ndimage.distance_transform_edt(
                cores == 0, sampling=coarse.spacing_mm, return_distances=False, return_indices=True
            )
            margins = [(s.start, n - s.stop) for s, n in zip(box, lungs.shape, strict=True)]
            return np.pad(np.asarray(cores[tuple(nearest)], np.uint8), margins, mode="edge")
    return np.full(lungs.shape, _lone_side(lungs, coarse), np.uint8)


def _two_cores(parts: Mask) -> NDArray[np.uint8] | None:
    """Label 1 and 2 on the components of `parts`, or None if they are not two lungs side by side."""
    labels, sizes = components(parts)
    if len(sizes) < 3:
        return None
    order = [int(i) for i in np.argsort(-sizes)]
    x = np.flatnonzero(parts.any(axis=(0, 1)))
    width = x[-1] - x[0] + 1
    centres = np.asarray([c[2] for c in ndimage.center_of_mass(parts, labels, range(1, len(sizes)))])
    largest = order[0]
    offsets = np.abs(centres - centres[largest - 1])
    others = [i for i in order[1:] if offsets[i - 1] > LEAST_OFFSET * width]
    if not others or sizes[others[0]] < LEAST_SHARE * sizes.sum():
        return None
    middle = (centres[largest - 1] + centres[others[0] - 1]) / 2
    table = np.zeros(len(sizes), np.uint8)
    large = np.flatnonzero(sizes[1:] > 0.01 * sizes.sum())
    table[large + 1] = np.where(centres[large] < middle, RIGHT, LEFT)
    return np.asarray(table[labels], np.uint8)


def cut_through(body: Mask) -> int:
    """The side of the lung in a scan of half a thorax, 0 if the body is not cut along its length."""
    section = body.sum(axis=(0, 1)).astype(float)  # (X,)
    if abs(section[-1] - section[0]) <= CUT_SHARE * section.max(initial=0.0):
        return 0
    return RIGHT if section[-1] > section[0] else LEFT


def _lone_side(lungs: Mask, coarse: Coarse) -> int:
    """Side of a single lung: opposite to where the scan cuts the body, else by the middle of the body."""
    slices = np.flatnonzero(lungs.any(axis=(1, 2)))
    body = body_mask(coarse)[slices]
    if side := cut_through(body):
        return side
    columns = np.flatnonzero(body.any(axis=(0, 1)))
    if not len(columns):
        return RIGHT
    centre = float(np.average(np.arange(lungs.shape[2]), weights=lungs.sum(axis=(0, 1))))
    return RIGHT if centre < (columns[0] + columns[-1]) / 2 else LEFT
