"""The physics rule: tissue from local statistics in aligned HU, with no learning at all.

Each tissue is a product of soft steps on quantities that mean something: how much gas is left where no vessel is (the
lower quartile), how dense the bulk is (the median), how much structure of which shape lies in between. The thresholds
began as HU facts (docs/science.md) and were adjusted on phantoms of the train split only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffseglung.features.local import NAMES, RELATIVE, shaped

Rows = NDArray[np.float32]
COLUMN = {name: i for i, name in enumerate([*NAMES, *(f"{name}_relative" for name in RELATIVE)])}


@dataclass(frozen=True)
class PhysicsRule:
    """Soft steps as (threshold, width).

    HU are aligned HU (healthy -860); `relative` is in units of the scan's healthy spread; spread and structure steps
    act on log(1 + HU). sparse: lung with tissue lost; haze: gas partly replaced; dense: airless; network: septa and
    reticulation; cysts: honeycombing. texture_trust: how far texture alone is believed, because vessels and airway
    walls have texture too.
    """

    sparse_q25: tuple[float, float] = (-900.0, 11.0)
    sparse_relative: tuple[float, float] = (-1.7, 0.75)
    haze_q50: tuple[float, float] = (-712.0, 30.0)
    dense_q50: tuple[float, float] = (-320.0, 65.0)
    dense_q25: tuple[float, float] = (-770.0, 140.0)
    network_plate: tuple[float, float] = (1.98, 0.155)
    network_q25: tuple[float, float] = (-844.0, 10.0)
    network_sd: tuple[float, float] = (3.45, 0.28)
    cyst_blob: tuple[float, float] = (0.44, 0.113)
    cyst_sd: tuple[float, float] = (4.38, 0.135)
    texture_trust: float = 0.5


def step(values: Rows, threshold: tuple[float, float]) -> Rows:
    """Logistic step from 0 to 1 at `threshold[0]` with width `threshold[1]`."""
    steps: Rows = 1 / (1 + np.exp(-np.clip((values - threshold[0]) / threshold[1], -30, 30)))
    return steps.astype(np.float32)


def physics_posterior(local: Rows, rule: PhysicsRule | None = None) -> Rows:
    """Class posterior (N, 5) in the order of `labels.TISSUES` from all local descriptors (N, len(NAMES)) of a scan."""
    rule = rule or PhysicsRule()
    rows = shaped(local)

    def column(name: str) -> Rows:
        values: Rows = rows[:, COLUMN[name]]
        return values

    q25, q50, sd = column("near_q25"), column("near_q50"), column("near_sd")
    dense = step(q50, rule.dense_q50) * step(q25, rule.dense_q25)
    sparse = (1 - step(q25, rule.sparse_q25)) * (1 - step(column("near_q25_relative"), rule.sparse_relative))
    haze = step(q50, rule.haze_q50)
    network = step(column("far_plate"), rule.network_plate) * step(q25, rule.network_q25) * step(sd, rule.network_sd)
    cysts = step(column("dark_blob_1"), rule.cyst_blob) * step(sd, rule.cyst_sd)
    scar = 1 - (1 - rule.texture_trust * network) * (1 - rule.texture_trust * cysts)
    rest = 1 - dense
    weights = np.stack(
        [
            rest * (1 - sparse) * (1 - haze) * (1 - scar),
            rest * sparse * (1 - haze) * (1 - scar),
            rest * haze * (1 - scar),
            rest * scar,
            dense,
        ],
        axis=1,
    )
    posterior: Rows = weights / np.maximum(weights.sum(1, keepdims=True), 1e-9)
    return posterior.astype(np.float32)
