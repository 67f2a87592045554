"""JSON of untrusted files, and file names as valid text. Every error in JSON is a ValueError."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any


def parse(text: str) -> Any:
    """The value of a JSON text.  Raises ValueError, also for text that is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError as cause:
        raise ValueError("it is nested too deeply") from cause


def read(path: Path) -> Any:
    """The value in a JSON file in UTF-8.  Raises OSError and ValueError."""
    return parse(path.read_text(encoding="utf-8"))


def plain(value: Any) -> Any:
    """The value in JSON types: NaN and infinity become None, arrays lists, text `readable`.

    >>> plain({"dice": float("nan"), "shape": (2, 3), "file": Path("ct.nii.gz")})
    {'dice': None, 'shape': [2, 3], 'file': 'ct.nii.gz'}
    """
    if hasattr(value, "tolist"):  # of NumPy
        value = value.tolist()
    if isinstance(value, dict):
        return {readable(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, int | bool) or value is None else readable(str(value))


def readable(text: str) -> str:
    """The text with non-UTF-8 bytes of a file name (surrogates) escaped, as in M\\udcfcller."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def as_path(text: str) -> Path:
    """The inverse of `readable`: the path as written if it exists, else with its bytes restored."""
    if "\\udc" not in text or Path(text).exists():
        return Path(text)
    return Path(re.sub(r"\\u(dc[89a-f][0-9a-f])", lambda found: chr(int(found[1], 16)), text))
