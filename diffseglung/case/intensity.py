"""HU to the network's range and back: norm = (HU + 1000) / 700 - 1 with the published window."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffseglung.platform.config import IntensityConfig


def normalise(hu: NDArray[Any], config: IntensityConfig | None = None) -> NDArray[np.float32]:
    """Map HU of any shape linearly from [low_hu, high_hu] to [-1, 1], clipped.

    >>> normalise(np.array([-1100.0, -1000.0, -300.0, 400.0]))
    array([-1., -1.,  0.,  1.], dtype=float32)
    """
    config = config or IntensityConfig()
    half = (config.high_hu - config.low_hu) / 2
    norm = np.clip(np.asarray(hu, np.float32), config.low_hu, config.high_hu)
    norm -= np.float32(config.low_hu)
    norm /= np.float32(half)
    norm -= np.float32(1)
    return norm


def denormalise(norm: NDArray[Any], config: IntensityConfig | None = None) -> NDArray[np.float32]:
    """Inverse of `normalise` within the window: [-1, 1] to HU."""
    config = config or IntensityConfig()
    half = (config.high_hu - config.low_hu) / 2
    return (np.asarray(norm, np.float32) + np.float32(1)) * np.float32(half) + np.float32(config.low_hu)
