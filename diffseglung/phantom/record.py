"""A phantom, the random parameters of its generator, and the parts of a chest that lesions change."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from diffseglung.platform.errors import ConfigError
from diffseglung.volume import Volume

T = TypeVar("T")
SPLITS = ("train", "dev", "test")
_BINS = "train", "test", "train", "dev", "train", "test", "train", "dev", "train", "test"


@dataclass(frozen=True, eq=False)
class Phantom:
    """A chest CT with known tissue.

    ct:    HU float32.
    lungs: uint8; 0 outside, 1 right lung, 2 left lung.
    truth: uint8; ids of `diffseglung.labels` inside the lungs, 0 outside.
    meta:  every parameter that was drawn, ready for JSON.
    """

    ct: Volume
    lungs: Volume
    truth: Volume
    meta: dict[str, Any]


@dataclass
class Draw:
    """Random parameters of one split, recorded by name.

    Each range is divided into ten bins, and each bin belongs to one split: train, dev and test never share a parameter
    value, although each covers the range. The assignment of bins depends on the name of the parameter.

    >>> draw = Draw(seed=7, split="dev")
    >>> 1.0 <= draw.uniform("slice_mm", 1.0, 2.5) <= 2.5
    True
    >>> list(draw.record)
    ['slice_mm']
    """

    seed: int
    split: str = "train"
    record: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ConfigError(f"split is {self.split!r}", remedy=f"choose one of {', '.join(SPLITS)}")
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}", remedy="choose a seed of 0 or more")
        self.rng = np.random.default_rng([SPLITS.index(self.split), self.seed])

    def stream(self, *words: int) -> np.random.Generator:
        """An independent generator for one purpose of this phantom."""
        return np.random.default_rng([SPLITS.index(self.split), self.seed, 977, *words])

    def uniform(self, name: str, low: float, high: float) -> float:
        """A value in [low, high] from the bins of the split."""
        shift = hashlib.sha256(name.encode()).digest()[0] % len(_BINS)
        own = [i for i in range(len(_BINS)) if _BINS[(i + shift) % len(_BINS)] == self.split]
        value = low + (high - low) * (own[int(self.rng.integers(len(own)))] + float(self.rng.random())) / len(_BINS)
        return self._note(name, value)

    def count(self, name: str, low: int, high: int) -> int:
        """A whole number in [low, high]."""
        return self._note(name, int(self.rng.integers(low, high + 1)))

    def chance(self, name: str, probability: float) -> bool:
        """True with this probability."""
        return self._note(name, bool(self.rng.random() < probability))

    def aside(self, *words: int) -> Draw:
        """An independent stream for one purpose, with the same record: other draws do not change."""
        other = self.inside(self.record)
        other.rng = self.stream(*words)
        return other

    def inside(self, record: dict[str, Any]) -> Draw:
        """The same stream, recording into `record`."""
        other = object.__new__(Draw)
        other.seed, other.split, other.record, other.rng = self.seed, self.split, record, self.rng
        return other

    def _note(self, name: str, value: T) -> T:
        self.record[name] = round(value, 5) if isinstance(value, float) else value
        return value


@dataclass
class ChestParts:
    """Lung tissue before it is scanned; lesions change it in place.

    parenchyma: (Z, Y, X) float32 HU of lung tissue without its vessels.
    vessels:    share of each voxel that is vessel or airway wall.
    lumen:      share of each voxel that is airway air.
    lungs:      uint8; 0 outside, 1 right lung, 2 left lung.
    depth:      distance to the lung surface in mm, positive inside.
    truth:      uint8 label ids.
    spacing_mm: of the grid, canonical axes.
    scale:      size of the chest relative to an adult.
    vessel_hu:  HU of blood.
    """

    parenchyma: NDArray[np.float32]
    vessels: NDArray[np.float32]
    lumen: NDArray[np.float32]
    lungs: NDArray[np.uint8]
    depth: NDArray[np.float32]
    truth: NDArray[np.uint8]
    spacing_mm: tuple[float, float, float]
    scale: float = 1.0
    vessel_hu: float = 40.0

    def compose(self, planes: slice | None = None) -> NDArray[np.float32]:
        """HU of tissue, vessels and airways combined, of all planes or some."""
        z = planes or slice(None)
        hu = self.parenchyma[z] + self.vessels[z] * (np.float32(self.vessel_hu) - self.parenchyma[z])
        hu += self.lumen[z] * (-1000 - hu)
        return hu
