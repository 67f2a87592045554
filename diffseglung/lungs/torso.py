"""Shared input of the checks of a scan and of its lungs: block means, body mask and airways."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffseglung.lungs.airways import find_airways
from diffseglung.lungs.coarse import Coarse, Mask, body_mask
from diffseglung.volume import Reorientation, Volume

GRID_MM = 2.0
"""Chest walls of thin people are two voxels thick; at 3 mm, room air leaks through them."""


@dataclass(frozen=True, eq=False)
class Torso:
    """Canonical axes.  grid: that of `coarse` in the patient;  body, airways: (Z, Y, X) on it."""

    turn: Reorientation
    grid: Volume
    coarse: Coarse
    body: Mask
    airways: Mask

    @classmethod
    def of(cls, ct: Volume) -> Torso:
        """ct: HU, any grid orientation."""
        turn = Reorientation.of(ct)
        upright = turn.apply(ct)
        coarse = Coarse.of(upright, GRID_MM)
        body = body_mask(coarse)
        return cls(turn, coarse.over(upright), coarse, body, find_airways(coarse, body))

    def sampled(self, labels: Volume) -> NDArray[np.uint8]:
        """A label map of the scan's grid, sampled in the middle of each block."""
        middles = [
            slice(before + factor // 2, before + factor * n, factor)
            for before, factor, n in zip(self.coarse.skipped, self.coarse.factors, self.coarse.hu.shape, strict=True)
        ]
        return np.ascontiguousarray(self.turn.apply(labels).array[tuple(middles)]).astype(np.uint8)
