"""Small low-confidence components of a lesion are relabelled as healthy lung.

A hilar vessel, an airway wall or a fold of pleura may resemble disease over a few millimetres, and no threshold on
single positions separates it from a small lesion. A connected component does: one that is small and nowhere certain is
more often one of these than disease; one that is certain somewhere, or large, is not. This is the hysteresis threshold
of Canny 1986, on connected components. Emphysema is unchanged: its centrilobular form is small components.

Where the diaphragm or the chest wall runs obliquely through thick slices, voxels share lung and tissue and resemble
ground glass. Such partial volume is superficial: a component of ground glass that nowhere lies deeper than `CRUST_MM`
below the lung surface is relabelled whatever its size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from diffseglung.case.positions import Positions
from diffseglung.labels import CONSOLIDATION, FIBROSIS, GGO, HEALTHY, TISSUES

EDGES_AND_CORNERS = np.ones((3, 3, 3), bool)


@dataclass(frozen=True)
class Doubt:
    """A component is doubtful if it is smaller than `below_ml` and its posterior is below `peak` everywhere."""

    below_ml: float
    peak: float


DOUBTS = {GGO: Doubt(2.7, 0.9), FIBROSIS: Doubt(2.7, 0.9), CONSOLIDATION: Doubt(10.8, 0.9)}
CRUST_MM = 9.0
"""About one thick slice, or three cells. All chosen on development cases (docs/science.md)."""


def without_low_confidence_components(posterior: Tensor, where: Positions, spacing_mm: float) -> Tensor:
    """Posterior (N, 5) at positions on a grid of `spacing_mm`, with doubtful and superficial components made healthy.

    A component is a connected set (26 neighbours) of positions whose most probable class is one lesion.
    """
    cell_ml = (where.stride * spacing_mm) ** 3 / 1000
    place = tuple(where.index.T)
    top = np.full(where.shape, -1, np.int8)
    top[place] = posterior.argmax(1).numpy()
    depth_mm = ndimage.distance_transform_edt(np.pad(top >= 0, 1))[1:-1, 1:-1, 1:-1] * where.stride * spacing_mm
    cleared, healthy = posterior.clone(), TISSUES.index(HEALTHY)
    for label, doubt in DOUBTS.items():
        column = TISSUES.index(label)
        islands, count = ndimage.label(top == column, EDGES_AND_CORNERS)
        certainty = np.zeros(where.shape, np.float32)
        certainty[place] = posterior[:, column].numpy()
        numbers = np.arange(1, count + 1)
        doubted = np.bincount(islands.ravel(), minlength=count + 1) * cell_ml < doubt.below_ml
        doubted[1:] &= ndimage.maximum(certainty, islands, numbers) < doubt.peak if count else False
        if label is GGO and count:
            doubted[1:] |= ndimage.maximum(depth_mm, islands, numbers) < CRUST_MM
        doubted[0] = False
        rows = torch.from_numpy(doubted[islands[place]])
        cleared[rows, healthy] += cleared[rows, column]
        cleared[rows, column] = 0
    return cleared
