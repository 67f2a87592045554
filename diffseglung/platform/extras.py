"""Libraries and tools that only some commands need: which they are, and what to install where one is missing."""

from __future__ import annotations

from importlib.util import find_spec

from diffseglung.platform.errors import ConfigError

EXTRAS = {
    "cohort": ("distributed", "dask_jobqueue", "cryptography"),
    "dicom": ("highdicom",),
    "train": ("tensorboard",),
}
"""Extra of `pip install 'diffseglung[EXTRA]'` -> the modules it brings."""
LUNG_TOOLS = {"totalsegmentator": "TotalSegmentator", "lungmask": "lungmask"}
"""Tools of others that find lungs: package, as `--lungs` names it -> what pip installs."""


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


def require_lung_tool(name: str, *, mask_given: bool = False) -> None:
    """ConfigError where the tool is not installed, or where the lungs are given already.  name: or `auto`, no tool."""
    if name == "auto":
        return
    if mask_given:
        raise ConfigError(f"a lung mask is given, and --lungs {name} asks for another", remedy="give one of the two")
    if find_spec(name) is None:
        title = LUNG_TOOLS[name]
        raise ConfigError(f"--lungs {name} needs {title}, which is not installed", remedy=f"pip install {title}")


def lung_tool_version(name: str) -> str | None:
    """Of the installed tool; None where its package does not tell."""
    from importlib.metadata import PackageNotFoundError, version  # slow to import, needed here only

    try:
        return version(LUNG_TOOLS[name])
    except PackageNotFoundError:
        return None
