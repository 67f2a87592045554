"""What a command prints: text for people, or with --json exactly one JSON document on standard output.

With --json all other text goes to standard error, so that `diffseglung ... --json | jq` always works. NO_COLOR
(no-color.org) turns colours off, FORCE_COLOR turns them on.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import unicodedata
from typing import Any, TextIO

from diffseglung.platform.serialization import plain


def say(args: argparse.Namespace, text: str) -> None:
    """Print a line for people: nothing with --quiet, to standard error with --json."""
    if not args.quiet:
        print(harmless(text), file=sys.stderr if args.json else sys.stdout, flush=True)


def answer(args: argparse.Namespace, document: Any) -> None:
    """Print the JSON document if --json was given; unknown values are null, never NaN."""
    if args.json:
        values = json.loads(json.dumps(document, allow_nan=False, default=str))
        print(json.dumps(plain(values), indent=2))


def red(text: str, stream: TextIO) -> str:
    """`text` in red if `stream` shows colours, else unchanged."""
    wanted = os.environ.get("FORCE_COLOR") or (stream.isatty() and os.environ.get("TERM") != "dumb")
    return f"\x1b[31m{text}\x1b[0m" if wanted and not os.environ.get("NO_COLOR") else text


def harmless(text: object) -> str:
    r"""Escape control characters in text from outside (a file name, a header), so that it cannot control the terminal.

    Newlines stay; characters that change the writing direction or cannot be encoded are escaped too.

    >>> harmless("ct\x1b[2J.nii.gz")
    'ct\\x1b[2J.nii.gz'
    """
    return "".join(c if c == "\n" or unicodedata.category(c)[0] != "C" else _escaped(c) for c in str(text))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
