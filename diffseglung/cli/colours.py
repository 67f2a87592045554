"""Coloured words, where a person looks: NO_COLOR (no-color.org) forbids them, FORCE_COLOR asks for them."""

from __future__ import annotations

import os
from typing import TextIO

CODES = {"red": "31", "green": "32", "yellow": "33"}


def coloured(stream: TextIO) -> bool:
    """Whether colours are wanted on a stream: not with NO_COLOR; with FORCE_COLOR; else on a terminal that has them."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str, stream: TextIO) -> str:
    """`text` in one of CODES where `stream` shows colours, else as it is."""
    return f"\x1b[{CODES[colour]}m{text}\x1b[0m" if coloured(stream) else text
