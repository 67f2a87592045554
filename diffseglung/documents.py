"""JSON from files that anybody may have written: every way in which it can be wrong is a ValueError."""

from __future__ import annotations

import json
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
