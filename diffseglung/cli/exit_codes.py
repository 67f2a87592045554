"""How a command ends: its exit code, an error as one sentence with a remedy, a closed pipe without a message."""

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
from diffseglung.cli.terminal import harmless, red
from diffseglung.platform import resources
from diffseglung.platform.errors import CheckpointError, ConfigError, DiffSegLungError, InputError

FILES_REMEDY = "check the path, its permissions and the free space"
MEMORY_REMEDY = "close other programs, use --fast if the command has it, or a machine with more memory"
DEFECT_REMEDY = "run it again with --debug, and report the traceback with the output of diffseglung info"


def run(args: argparse.Namespace) -> int:
    """Run a parsed command; --debug keeps the traceback of an error, --verbose prints versions and time to stderr."""
    began = time.perf_counter()
    _verbose(args, f"diffseglung {__version__}, Python {platform.python_version()}, {platform.system()}")
    try:
        if args.quiet:
            _silence_libraries()
        _limit(args)
        _handle_sigterm()
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
    _verbose(args, f"{time.perf_counter() - began:.1f} s, exit code {code}")
    return code


def print_error(problem: str, remedy: str) -> None:
    """Print one sentence and a remedy to standard error; file names in them are made harmless."""
    problem, remedy = (" ".join(harmless(text).split("\n")) for text in (problem, remedy))
    print(f"{red('error:', sys.stderr)} {problem}\n  try: {remedy}", file=sys.stderr)


class Terminated(BaseException):
    """SIGTERM arrived; raised so that everything is cleaned up, as with Ctrl-C."""


def _handle_sigterm() -> None:
    """Turn SIGTERM into Terminated, unless another handler is installed."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:

        def end(number: int, frame: FrameType | None) -> None:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            raise Terminated

        signal.signal(signal.SIGTERM, end)


def told(error: Exception) -> tuple[str, str, int]:
    """The problem, the remedy and the exit code."""
    if isinstance(error, DiffSegLungError):
        wrong_input = isinstance(error, InputError | ConfigError | CheckpointError)
        return error.problem, error.remedy, 2 if wrong_input else 1
    if resources.is_out_of_memory(error):
        return "out of memory", MEMORY_REMEDY, 1
    if isinstance(error, OSError):
        return str(error), FILES_REMEDY, 1
    first = next(iter(str(error).splitlines()), "")
    return f"unexpected error ({type(error).__name__}: {first})", DEFECT_REMEDY, 1


def piped(call: Callable[[], int]) -> int:
    """`call()`, or 1 without a message if the reader of standard output has gone, as after `| head`.

    Characters that the encoding of standard output lacks are escaped.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            return call()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it at exit
        return 1


def _silence_libraries() -> None:
    """Silence the loggers and warnings of libraries, except warnings that the user asked Python to show."""
    import logging
    import warnings

    logging.basicConfig(handlers=[logging.NullHandler()])
    if not (sys.warnoptions or os.environ.get("PYTHONWARNINGS")):
        warnings.simplefilter("ignore")


def _limit(args: argparse.Namespace) -> None:
    """Apply --threads and --max-memory, before the heavy libraries are loaded."""
    resources.require_memory()
    if args.threads is not None:
        resources.limit_threads(args.threads)
    if args.max_memory is not None:
        resources.limit_memory(args.max_memory)


def _verbose(args: argparse.Namespace, text: str) -> None:
    if args.verbose and not args.quiet:
        print(text, file=sys.stderr)
