"""The physics rule: tissue from local statistics in aligned HU, with no learning at all.

Each tissue is a product of soft steps on quantities that mean something: how much gas is left where no vessel is (the
lower quartile), how dense the bulk is (the median), how much structure of which shape lies in between. Thresholds were
set on development phantoms only (docs/science.md); HU facts and sources are listed there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffseglung.features.local import NAMES

Rows = NDArray[np.float32]
COLUMN = {name: i for i, name in enumerate(NAMES)}


@dataclass(frozen=True)
class PhysicsRule:
    """Soft steps as (threshold, width); HU are aligned HU (healthy -860)."""

    sparse_q50: tuple[float, float] = (-908.0, 8.0)
    sparse_q75: tuple[float, float] = (-885.0, 10.0)
    haze_q25: tuple[float, float] = (-745.0, 25.0)
    dense_q50: tuple[float, float] = (-300.0, 50.0)
    dense_q25: tuple[float, float] = (-480.0, 60.0)
    plate: tuple[float, float] = (2.3, 0.25)
    far_plate: tuple[float, float] = (2.0, 0.25)
    cyst: tuple[float, float] = (0.7, 0.2)
    spread: tuple[float, float] = (110.0, 15.0)


def step(values: Rows, threshold: tuple[float, float]) -> Rows:
    """Logistic step from 0 to 1 at `threshold[0]` with width `threshold[1]`."""
    return (1 / (1 + np.exp(-np.clip((values - threshold[0]) / threshold[1], -30, 30)))).astype(np.float32)


def physics_posterior(local: Rows, rule: PhysicsRule | None = None) -> Rows:
    """Class posterior (N, 5) in the order of `labels.TISSUES` from local descriptors (N, len(NAMES))."""
    rule = rule or PhysicsRule()

    def column(name: str) -> Rows:
        return local[:, COLUMN[name]]

    dense = step(column("near_q50"), rule.dense_q50) * step(column("near_q25"), rule.dense_q25)
    sparse = (1 - step(column("near_q50"), rule.sparse_q50)) * (1 - step(column("near_q75"), rule.sparse_q75))
    haze = step(column("near_q25"), rule.haze_q25)
    plates = np.log1p(column("plate_1"))
    network = step(plates, rule.plate) * step(np.log1p(column("far_plate")), rule.far_plate)
    cysts = step(np.log1p(column("dark_blob_1")), rule.cyst) * step(column("near_sd"), rule.spread)
    fibrosis = 1 - (1 - network) * (1 - cysts)
    rest = 1 - dense
    weights = np.stack(
        [
            rest * (1 - sparse) * (1 - haze) * (1 - fibrosis),
            rest * sparse * (1 - fibrosis),
            rest * haze * (1 - fibrosis),
            rest * fibrosis,
            dense,
        ],
        axis=1,
    )
    return (weights / np.maximum(weights.sum(1, keepdims=True), 1e-9)).astype(np.float32)
