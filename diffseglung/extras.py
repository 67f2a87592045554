"""Libraries that only some commands need: which they are, and what to install where one is missing."""

from __future__ import annotations

from importlib.util import find_spec

from diffseglung.errors import ConfigError

EXTRAS = {
    "cohort": ("distributed", "dask_jobqueue", "cryptography"),
    "dicom": ("highdicom",),
    "train": ("tensorboard",),
}
"""Extra of `pip install 'diffseglung[EXTRA]'` -> the modules it brings."""


def missing(extra: str) -> list[str]:
    """The modules of an extra that are not installed."""
    return [name for name in EXTRAS[extra] if find_spec(name) is None]


def require(extra: str, purpose: str) -> None:
    """ConfigError with the pip line where a module of the extra is missing.  purpose: what needs it, as a subject."""
    if absent := missing(extra):
        raise ConfigError(
            f"{purpose} needs {', '.join(absent)}, which is not installed",
            remedy=f"pip install 'diffseglung[{extra}]'",
        )
