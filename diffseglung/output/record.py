"""run.json: how a result was made, complete enough to make it again."""

from __future__ import annotations

import json
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from diffseglung import __version__
from diffseglung.platform.serialization import plain
from diffseglung.segmentation import Segmentation

FORMAT = 1
"""Of run.json; one that lacks it is from before it was counted."""
RECORD = "run.json"
PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "SimpleITK", "nibabel", "pydicom")


def versions() -> dict[str, str | None]:
    """This package, Python, and what computes; None for what is not installed."""
    found: dict[str, str | None] = {"diffseglung": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def describe(segmentation: Segmentation, files: list[str]) -> dict[str, Any]:
    """What run.json holds: the pipeline's own record, versions, the grid, and the files beside it."""
    ct = segmentation.ct
    record: dict[str, Any] = {
        "format": FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "platform": platform.platform(),
        "grid": {"shape_zyx": list(ct.shape), "spacing_mm_zyx": list(ct.spacing_mm), "affine_lps": ct.affine.tolist()},
        "warnings": [],
        **segmentation.run,
        "files": sorted(files),
        "notice": "Research use only. Not a medical device.",
    }
    record["versions"] = {**versions(), **record.get("versions", {})}
    return record


def write_json(path: Path, value: Any) -> None:
    """Readable JSON; NaN and infinities become null, NumPy numbers plain ones."""
    path.write_text(json.dumps(plain(value), indent=2, allow_nan=False) + "\n", encoding="utf-8")
