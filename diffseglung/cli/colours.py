"""What may reach a terminal: coloured words where a person looks, nothing that a file could tell the terminal to do.

NO_COLOR (no-color.org) forbids colours, FORCE_COLOR asks for them.
"""

from __future__ import annotations

import os
import unicodedata
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


def harmless(text: object) -> str:
    """Text from outside (a file's name, a header) with control characters written out: no escape sequence survives.

    Lines stay lines; what turns the direction of writing or cannot be encoded is written out too.
    """
    return "".join(c if c == "\n" or unicodedata.category(c)[0] != "C" else _written_out(c) for c in str(text))


def _written_out(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
