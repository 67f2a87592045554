"""How a command ends: exit codes, errors as one sentence with a remedy, quiet pipes.

0 done, 1 the run failed, 2 the command line or the input was wrong, 130 stopped by Ctrl-C, 143 by SIGTERM.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

from diffseglung import __version__
from diffseglung.cli.colours import harmless, paint
from diffseglung.platform import resources
from diffseglung.platform.errors import CheckpointError, ConfigError, DiffSegLungError, InputError

FILES_REMEDY = "check the path, its permissions and the free space"
MEMORY_REMEDY = "close other programs, take --fast where the command has it, or a machine with more memory"
DEFECT_REMEDY = "run it again with --debug, and report the traceback with the output of diffseglung info"


def run(args: argparse.Namespace) -> int:
    """Run a parsed command; with --debug errors keep their traceback, with --verbose stderr tells what ran how long."""
    began = time.perf_counter()
    _murmur(args, f"diffseglung {__version__}, Python {platform.python_version()}, {platform.system()}")
    try:
        if args.quiet:
            _hush()
        _limit(args)
        _heed_termination()
        code = int(args.run(args) or 0)
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except Terminated:
        print("terminated", file=sys.stderr)
        return 143
    except Exception as error:
        if args.debug:
            raise
        problem, remedy, code = told(error)
        print_error(problem, remedy)
        return code
    _murmur(args, f"{time.perf_counter() - began:.1f} s, exit code {code}")
    return code


def print_error(problem: str, remedy: str) -> None:
    """One sentence and a remedy on standard error, whatever the names of files hold."""
    problem, remedy = (" ".join(harmless(text).split("\n")) for text in (problem, remedy))
    print(f"{paint('error:', 'red', sys.stderr)} {problem}\n  try: {remedy}", file=sys.stderr)


class Terminated(BaseException):
    """SIGTERM arrived: everything on the way out is cleaned up, as with Ctrl-C."""


def _heed_termination() -> None:
    """Let SIGTERM end the command in order, where nobody else has said what it does."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:

        def end(number: int, frame: FrameType | None) -> None:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            raise Terminated

        signal.signal(signal.SIGTERM, end)


def told(error: Exception) -> tuple[str, str, int]:
    """What was found, what to do about it, and the exit code."""
    if isinstance(error, DiffSegLungError):
        wrong_input = isinstance(error, InputError | ConfigError | CheckpointError)
        return error.problem, error.remedy, 2 if wrong_input else 1
    if resources.is_out_of_memory(error):
        return "the memory does not suffice", MEMORY_REMEDY, 1
    if isinstance(error, OSError):
        return str(error), FILES_REMEDY, 1
    first = next(iter(str(error).splitlines()), "")
    return f"a defect of this program ({type(error).__name__}: {first})", DEFECT_REMEDY, 1


def piped(call: Callable[[], int]) -> int:
    """`call()`; quietly 1 where the reader of standard output has gone, as after `| head`.

    What its encoding has no code for, as bytes of a file's name that are no UTF-8, is written out.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            return call()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is flushed when Python ends
        return 1


def _hush() -> None:
    """Keep from standard error what libraries tell on their own; warnings that the user chose to see stay."""
    import logging
    import warnings

    logging.basicConfig(handlers=[logging.NullHandler()])
    if not (sys.warnoptions or os.environ.get("PYTHONWARNINGS")):
        warnings.simplefilter("ignore")


def _limit(args: argparse.Namespace) -> None:
    """Keep to the threads and the memory that were granted, from before the heavy libraries are loaded."""
    resources.require_memory()
    if args.threads is not None:
        resources.limit_threads(args.threads)
    if args.max_memory is not None:
        resources.limit_memory(args.max_memory)


def _murmur(args: argparse.Namespace, text: str) -> None:
    if args.verbose and not args.quiet:
        print(text, file=sys.stderr)
