"""Small weak islands of a lesion are given back to healthy lung.

A hilar vessel, an airway wall or a fold of pleura may look like disease for a few millimetres, and no threshold on
single positions tells it from a small lesion. Together its positions do: an island that is small and nowhere certain is
more often one of these than disease, one that is certain somewhere or large is not. The two-level rule is that of Canny
1986 (hysteresis), on connected components. Emphysema stays as it is: the centrilobular form is small islands.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from diffseglung.features.local import Positions
from diffseglung.labels import CONSOLIDATION, FIBROSIS, GGO, HEALTHY, TISSUES

EDGES_AND_CORNERS = np.ones((3, 3, 3), bool)


@dataclass(frozen=True)
class Doubt:
    """An island is doubted when it is smaller than `below_ml` and its posterior stays below `peak` everywhere."""

    below_ml: float
    peak: float


DOUBTS = {GGO: Doubt(2.7, 0.9), FIBROSIS: Doubt(2.7, 0.9), CONSOLIDATION: Doubt(10.8, 0.9)}
"""Chosen on development cases (docs/science.md)."""


def without_weak_islands(posterior: Tensor, where: Positions, spacing_mm: float) -> Tensor:
    """Posterior (N, 5) at the positions of a grid of `spacing_mm`, with doubted islands' lesion moved to healthy.

    An island is a connected set (26 neighbours) of positions whose most probable class is one lesion.
    """
    cell_ml = (where.stride * spacing_mm) ** 3 / 1000
    place = tuple(where.index.T)
    top = np.full(where.shape, -1, np.int8)
    top[place] = posterior.argmax(1).numpy()
    cleared, healthy = posterior.clone(), TISSUES.index(HEALTHY)
    for label, doubt in DOUBTS.items():
        column = TISSUES.index(label)
        islands, count = ndimage.label(top == column, EDGES_AND_CORNERS)
        certainty = np.zeros(where.shape, np.float32)
        certainty[place] = posterior[:, column].numpy()
        numbers = np.arange(1, count + 1)
        doubted = np.bincount(islands.ravel(), minlength=count + 1) * cell_ml < doubt.below_ml
        doubted[1:] &= ndimage.maximum(certainty, islands, numbers) < doubt.peak if count else False
        doubted[0] = False
        rows = torch.from_numpy(doubted[islands[place]])
        cleared[rows, healthy] += cleared[rows, column]
        cleared[rows, column] = 0
    return cleared
