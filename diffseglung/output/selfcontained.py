"""What a page in one file needs to be safe: data that cannot leave their element, and the only script by its name."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any


def embedded(data: Any) -> str:
    """JSON that can stand in a script element: only ASCII, and no character that HTML gives a meaning."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


def source_of(text: str) -> str:
    """A script or style as a Content-Security-Policy names it: nothing else may run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"
