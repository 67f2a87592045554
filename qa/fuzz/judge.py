"""Read inputs one by one in a child process with limits, and record how each ended.

well: read;  told: refused with a typed error and a remedy.  Everything else is a find: a traceback, a process killed by
a signal, more than `PATIENCE_S`, more memory than `BOUND_MIB` above that before (even if reported as an error), an
event that executes something (`FORBIDDEN`, by Python's audit hooks), or a file outside the folder of the input.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from qa.fuzz.mutations import Files
from qa.fuzz.targets import put

PATIENCE_S, WRITING_S, BOUND_MIB = 10.0, 120.0, 512
READS = b"reads"
"""Sent by the child when an input is written and reading begins."""
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "socket.connect", "pty.spawn",
             "pickle.find_class", "urllib.Request", "ctypes.dlopen")  # fmt: skip
"""Audit events (PEP 578) that no reader has a reason to raise."""
SPRUNG = "sprung"
"""File that injected code would create in the working folder."""


@dataclass(frozen=True)
class Verdict:
    """outcome: well, told, or the kind of find;  about: the message;  mib: memory above the start;  seconds."""

    number: int
    outcome: str
    about: str
    mib: float
    seconds: float

    @property
    def is_find(self) -> bool:
        """Whether this is a find."""
        return self.outcome not in ("well", "told")


def judged(inputs: Callable[[int], Files], read: Callable[[Path], object], numbers: range) -> Iterator[Verdict]:
    """The verdict on each input.  inputs: makes the files of a number."""
    waiting = numbers.start
    while waiting < numbers.stop:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            child, pipe = _started(inputs, read, range(waiting, numbers.stop), Path(folder))
            try:
                for verdict in _heard(child, pipe, waiting):
                    yield verdict
                    waiting = verdict.number + 1
            finally:
                os.close(pipe)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(child, 0)


def _heard(child: int, pipe: int, first: int) -> Iterator[Verdict]:
    """Verdicts as they arrive; a child that hangs or dies gets one too, and is ended."""
    buffer, number, reads = b"", first, False
    while True:
        ready, _, _ = select.select([pipe], [], [], PATIENCE_S + 2.0 if reads else WRITING_S)
        data = os.read(pipe, 65536) if ready else b""
        if not data:
            if not ready:
                what = f"longer than {PATIENCE_S:g} s" if reads else "the input could not be made"
                yield Verdict(number, "hang", what, 0.0, PATIENCE_S)
                return
            _, status = os.waitpid(child, 0)
            code = os.waitstatus_to_exitcode(status)
            if code != 0:
                yield Verdict(number, "crash", f"the process ended with {code}", 0.0, 0.0)
            return
        buffer += data
        *lines, buffer = buffer.split(b"\n")
        for line in lines:
            reads = line == READS
            if reads:
                continue
            verdict = Verdict(**json.loads(line))
            number = verdict.number + 1
            yield verdict


def _started(
    inputs: Callable[[int], Files], read: Callable[[Path], object], numbers: range, folder: Path
) -> tuple[int, int]:
    """A forked child that processes the numbers, and the pipe for its verdicts."""
    out, into = os.pipe()
    child = os.fork()
    if child:
        os.close(into)
        return child, out
    try:
        os.close(out)
        faulthandler.disable()
        quiet = os.open(os.devnull, os.O_RDWR)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        os.chdir(folder)
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
        events: list[str] = []
        sys.addaudithook(lambda event, args: events.append(f"{event} {args!r:.200}") if event in FORBIDDEN else None)
        for number in numbers:
            place = _placed(inputs(number), folder)
            os.write(into, READS + b"\n")
            verdict = _judge(number, place, read, events)
            os.write(into, json.dumps(vars(verdict)).encode() + b"\n")
            if verdict.is_find:
                break  # continue in a new process after a find
        os._exit(0)
    except BaseException:
        os.write(into, b"")
        os._exit(99)


def _placed(files: Files, folder: Path) -> Path:
    place = folder / "input"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    with contextlib.suppress(OSError, ValueError):
        put(files, place)
    return place


def _judge(number: int, place: Path, read: Callable[[Path], object], events: list[str]) -> Verdict:
    from diffseglung.platform.errors import DiffSegLungError
    from diffseglung.platform.resources import is_out_of_memory

    folder = place.parent
    events.clear()
    _limit(BOUND_MIB)
    before, begin = _peak_mib(), time.monotonic()
    outcome, about = "well", ""
    try:
        read(place)
    except DiffSegLungError as error:
        outcome, about = ("told", error.problem) if error.problem and error.remedy else ("no remedy", repr(error))
        if _out_of_memory(error):  # it requested too much memory
            outcome = "memory"
    except Exception as error:
        refused = is_out_of_memory(error)
        frames = traceback.extract_tb(error.__traceback__)[-3:]
        where = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames))
        outcome = "memory" if refused else "traceback"
        about = f"{type(error).__name__}: {error!s:.200} at {where}"
    seconds, mib = time.monotonic() - begin, _peak_mib() - before
    _limit(None)
    if events:
        outcome, about = "execution", events[0]
    strangers = [p.name for p in folder.iterdir() if p.name not in ("input",) and not p.name.startswith("diffseglung-")]
    if strangers or (place / SPRUNG).exists():
        outcome, about = "stray file", f"{strangers}"
    if seconds > PATIENCE_S:
        outcome, about = "hang", f"{seconds:.1f} s; {outcome}: {about}"
    for rest in folder.iterdir():
        if rest.name != "input":
            shutil.rmtree(rest, ignore_errors=True) if rest.is_dir() else rest.unlink(missing_ok=True)
    return Verdict(number, outcome, about[:400], round(mib, 1), round(seconds, 3))


def _out_of_memory(error: BaseException) -> bool:
    """Whether an error was caused by refused memory."""
    from diffseglung.platform.resources import is_out_of_memory

    cause = error.__cause__ or error.__context__
    return cause is not None and (is_out_of_memory(cause) or _out_of_memory(cause))


def _limit(mib: int | None) -> None:
    """Let the system refuse more memory than this above the present use."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    held = int(_status()["VmData"].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY if mib is None else held + mib * 2**20, hard))


def _peak_mib() -> float:
    return int(_status()["VmHWM"].split()[0]) / 1024


def _status() -> dict[str, str]:
    return dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
