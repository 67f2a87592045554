"""HU to the network's range and back: norm = (HU + 1000) / 700 - 1 with the published window."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffseglung.platform.config import IntensityConfig


def normalise(hu: NDArray[Any], config: IntensityConfig | None = None) -> NDArray[np.float32]:
    """Map HU of any shape linearly from [low_hu, high_hu] to [-1, 1], clipping outside."""
    config = config or IntensityConfig()
    half = (config.high_hu - config.low_hu) / 2
    norm = np.clip(np.asarray(hu, np.float32), config.low_hu, config.high_hu)
    norm -= np.float32(config.low_hu)
    norm /= np.float32(half)
    norm -= np.float32(1)
    return norm


def denormalise(norm: NDArray[Any], config: IntensityConfig | None = None) -> NDArray[np.float32]:
    """Inverse of `normalise` inside the window: [-1, 1] back to HU."""
    config = config or IntensityConfig()
    half = (config.high_hu - config.low_hu) / 2
    return (np.asarray(norm, np.float32) + np.float32(1)) * np.float32(half) + np.float32(config.low_hu)
