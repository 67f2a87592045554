"""What a command says on standard output: words for a person, or with --json exactly one JSON document.

With --json every word for a person goes to standard error, so that `diffseglung ... --json | jq` always works.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from diffseglung.cli.colours import harmless
from diffseglung.platform.serialization import plain


def add_json(parser: argparse.ArgumentParser, what: str = "what was done") -> None:
    """The option --json."""
    parser.add_argument("--json", action="store_true", help=f"print {what} as one JSON document")


def say(args: argparse.Namespace, text: str) -> None:
    """A line for a person: nowhere with --quiet, on standard error with --json."""
    if not args.quiet:
        print(harmless(text), file=sys.stderr if args.json else sys.stdout, flush=True)


def answer(args: argparse.Namespace, document: Any) -> None:
    """The JSON document, if it was asked for; unknown values are null, never NaN."""
    if args.json:
        values = json.loads(json.dumps(document, allow_nan=False, default=str))
        print(json.dumps(plain(values), indent=2))
