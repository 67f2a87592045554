"""What the checks of a scan and of its lungs both read: block means, the body in them, and its airways."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffseglung.lungs.airways import find_airways
from diffseglung.lungs.coarse import Coarse, Mask, body_mask
from diffseglung.volume import Reorientation, Volume

GRID_MM = 2.0
"""Chest walls of thin people are two of these; on 3 mm the room's air leaks through them."""


@dataclass(frozen=True, eq=False)
class Torso:
    """Canonical axes throughout.  grid: that of `coarse` in the patient;  body, airways: (Z, Y, X) on it."""

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
        """A label map on the scan's grid, as it is in the middle of each block."""
        middles = [
            slice(before + factor // 2, before + factor * n, factor)
            for before, factor, n in zip(self.coarse.skipped, self.coarse.factors, self.coarse.hu.shape, strict=True)
        ]
        return np.ascontiguousarray(self.turn.apply(labels).array[tuple(middles)]).astype(np.uint8)
