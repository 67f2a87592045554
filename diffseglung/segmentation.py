"""The result of a run: label map, statistics, posterior, and provenance."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffseglung.volume import Volume


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Result of `segment`; all volumes are on the input's grid.

    ct:         HU.
    lungs:      uint8; 0 outside, 1 right lung, 2 left lung.
    label_map:  uint8; ids of `diffseglung.labels`.
    statistics: contents of statistics.json, from `output.statistics.measure`.
    posterior:  (Z, Y, X, 5) float16 in the order of `labels.TISSUES`, zero outside the lungs; None unless asked for.
    certainty:  (Z, Y, X) uint8, 255 times the highest probability of a class, 0 outside the lungs; None if unknown.
    run:        contents of run.json: versions, settings, model hash, device, seconds, warnings.
    """

    ct: Volume
    lungs: Volume
    label_map: Volume
    statistics: dict[str, Any]
    posterior: NDArray[np.float16] | None = None
    run: dict[str, Any] = field(default_factory=dict)
    certainty: NDArray[np.uint8] | None = None
