"""DiffSegLung: label-free lung pathology maps from chest CT. Research use only; not a medical device."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "LungPathology",
    "LungPathologyd",
    "Segmentation",
    "Segmenter",
    "Volume",
    "__version__",
    "read_volume",
    "segment",
    "segment_array",
]

_HOMES = {
    "LungPathology": "diffseglung.transforms",
    "LungPathologyd": "diffseglung.transforms",
    "Segmentation": "diffseglung.segmentation",
    "Segmenter": "diffseglung.pipeline",
    "Volume": "diffseglung.volume",
    "read_volume": "diffseglung.io",
    "segment": "diffseglung.pipeline",
    "segment_array": "diffseglung.transforms",
}

if TYPE_CHECKING:
    from diffseglung.io import read_volume
    from diffseglung.pipeline import Segmenter, segment
    from diffseglung.segmentation import Segmentation
    from diffseglung.transforms import LungPathology, LungPathologyd, segment_array
    from diffseglung.volume import Volume


def __getattr__(name: str) -> Any:
    """Import public names on first use, so that `diffseglung --help` is fast."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
