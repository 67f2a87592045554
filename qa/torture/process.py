"""Commands as separate processes that can be killed: forked with everything loaded, or started from scratch."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE_S = 300.0


@dataclass(frozen=True)
class Ended:
    """code: exit status, negative for a signal;  text: standard error;  seconds: duration."""

    code: int
    text: str
    seconds: float

    @property
    def in_words(self) -> bool:
        """Whether a failure is one sentence with a remedy, without a traceback, and not an unexpected error."""
        if "Traceback" in self.text or "unexpected error" in self.text:
            return False
        failure = "error:" in self.text or "failed:" in self.text  # one of several scans
        return self.code == 0 or (failure and "try:" in self.text)


def start(words: str, log: Path, *, real: bool = False, before: Callable[[], None] | None = None) -> int:
    """Start `diffseglung WORDS` in its own session; returns the process id.

    before: called in the new process first (a fork; not with `real`).
    """
    if real:
        with log.open("wb") as file:
            command = [sys.executable, "-m", "diffseglung", *shlex.split(words)]
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
            return subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True, env=environment).pid
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    code = 70
    try:
        os.setsid()
        number = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(number, 1)
        os.dup2(number, 2)
        if before is not None:
            before()
        from diffseglung.cli import main

        code = main(shlex.split(words))
        sys.stdout.flush()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os._exit(code)


def wait(process: int, log: Path, *, kill_at: float | None = None) -> Ended:
    """Wait until a process has ended, or kill its group after `kill_at` seconds."""
    begin = time.monotonic()
    limit = PATIENCE_S if kill_at is None else kill_at
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            break
        if time.monotonic() - begin > limit:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process, signal.SIGKILL)
            _, status = os.waitpid(process, 0)
            break
        time.sleep(0.002)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)  # child processes too
    text = log.read_text(errors="replace") if log.exists() else ""
    return Ended(os.waitstatus_to_exitcode(status), text, time.monotonic() - begin)


def run(words: str, log: Path, *, real: bool = False, before: Callable[[], None] | None = None) -> Ended:
    """Run a command to its end."""
    return wait(start(words, log, real=real, before=before), log)
