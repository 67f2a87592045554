"""Libraries and tools that only some commands need, and how to install them."""

from __future__ import annotations

from importlib.util import find_spec

from diffseglung.platform.errors import ConfigError

EXTRAS = {
    "cohort": ("distributed", "dask_jobqueue", "cryptography"),
    "dicom": ("highdicom",),
    "train": ("tensorboard",),
}
"""Extra of `pip install 'diffseglung[EXTRA]'` -> the modules it provides."""
LUNG_TOOLS = {"totalsegmentator": "TotalSegmentator", "lungmask": "lungmask"}
"""External lung segmentation tools: name for `--lungs`, which is the package -> name for pip."""


def missing(extra: str) -> list[str]:
    """The modules of an extra that are not installed."""
    return [name for name in EXTRAS[extra] if find_spec(name) is None]


def require(extra: str, purpose: str) -> None:
    """Raise ConfigError with the pip command if a module of the extra is missing.  purpose: subject of the message."""
    if absent := missing(extra):
        raise ConfigError(
            f"{purpose} needs {', '.join(absent)}, which is not installed",
            remedy=f"pip install 'diffseglung[{extra}]'",
        )


def require_lung_tool(name: str, *, mask_given: bool = False) -> None:
    """Raise ConfigError if the tool is not installed, or if a mask is given too.  name: `auto` needs no tool."""
    if name == "auto":
        return
    if mask_given:
        raise ConfigError(f"--lungs {name} does not go with a given lung mask", remedy="leave out either")
    if find_spec(name) is None:
        title = LUNG_TOOLS[name]
        raise ConfigError(f"--lungs {name} needs {title}, which is not installed", remedy=f"pip install {title}")


def lung_tool_version(name: str) -> str | None:
    """Version of the installed tool; None if unknown."""
    from importlib.metadata import PackageNotFoundError, version  # slow to import, needed here only

    try:
        return version(LUNG_TOOLS[name])
    except PackageNotFoundError:
        return None
