"""Run the five self-tests of `diffseglung info --training` alone (under a minute on a CPU).

Ends with `ALL 5 TESTS PASSED` and exit code 0, or names the tests that failed and ends with exit code 1.
"""

from __future__ import annotations

import argparse
import sys

from diffseglung.cli.options import add_general_options, add_json
from diffseglung.cli.progress import bar
from diffseglung.cli.self_tests import TESTS, outcomes
from diffseglung.cli.terminal import answer, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `check`."""
    add_json(parser, "the outcome of each test")
    add_general_options(parser)


def run(args: argparse.Namespace) -> int:
    """0 if all tests pass, else 1."""
    rows = []
    with bar("checking", quiet=args.quiet) as track:
        for row in track(outcomes(args.device, debug=args.debug), len(TESTS)):
            rows.append(row)
            if row["passed"]:
                text = f"{row['test']}: {row['found']} ({row['seconds']:.1f} s)"
                say(args, f"test {len(rows)} passed: {text}")
            else:
                _print_always(args, f"TEST {len(rows)} FAILED: {row['test']}: {row['found']}")
    failed = [row["test"] for row in rows if not row["passed"]]
    answer(args, {"passed": not failed, "tests": rows})
    if failed:
        _print_always(args, f"{len(failed)} OF {len(rows)} TESTS FAILED: {', '.join(failed)}")
        return 1
    _print_always(args, f"ALL {len(rows)} TESTS PASSED")
    return 0


def _print_always(args: argparse.Namespace, text: str) -> None:
    """Print a line even with --quiet."""
    print(text, file=sys.stderr if args.json else sys.stdout, flush=True)
