"""JSON to and from files that anybody may read or have written, and names of files as text that all of them can hold.

Every way in which JSON can be wrong is a ValueError.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any


def parse(text: str) -> Any:
    """The value of a JSON text.  Raises ValueError, also where it is nested too deeply to be read."""
    try:
        return json.loads(text)
    except RecursionError as cause:
        raise ValueError("it is nested too deeply") from cause


def read(path: Path) -> Any:
    """The value in a JSON file in UTF-8.  Raises OSError and ValueError."""
    return parse(path.read_text(encoding="utf-8"))


def plain(value: Any) -> Any:
    """The same value in JSON's own types: unknown numbers are None, arrays lists, names of files `readable`."""
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
    """The same text, with the bytes of a file's name that are no UTF-8 (surrogates) written out, as in M\\udcfcller."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def as_path(text: str) -> Path:
    """The path that was made `readable`: as it is written where that exists, else with its bytes put back."""
    if "\\udc" not in text or Path(text).exists():
        return Path(text)
    return Path(re.sub(r"\\u(dc[89a-f][0-9a-f])", lambda found: chr(int(found[1], 16)), text))
