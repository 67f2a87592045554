"""Faults: full and read-only disks, low memory, clock jumps, input that vanishes or is slow."""

from __future__ import annotations

import ctypes
import datetime
import os
import random
import resource
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qa.torture import process
from qa.torture.jobs import JOBS, Job, damage, digest

NEW_USER, NEW_MOUNTS, PRIVATE, READ_ONLY = 0x10000000, 0x00020000, 0x44000, 0x1
"""Flags of unshare(2) and mount(2): MS_REC | MS_PRIVATE, MS_RDONLY."""
REMOUNT = 0x20
BY_NAME = {job.name: job for job in JOBS}


@dataclass
class Tally:
    """tried: runs with the fault;  well: ended with the normal result;  told: failed with one sentence.

    losses: incomplete files, tracebacks, different results, or a failing next run.
    """

    tried: int = 0
    well: int = 0
    told: int = 0
    losses: list[str] = field(default_factory=list)


class Stand:
    """One job with its input, its normal result, and a tally of the effects of faults."""

    def __init__(self, job: Job, folder: Path) -> None:
        self.job, self.folder, self.log, self.tally = job, folder, folder / "log", Tally()
        self.count = 0
        job.prepare(folder / "in")
        self.expected = self._reference()

    def _reference(self) -> dict[str, str]:
        ended = process.run(self.words(self.folder / "reference"), self.log, real=self.job.real)
        if ended.code:
            raise RuntimeError(f"{self.job.name} fails without a fault: {ended.text}")
        return digest(self.folder / "reference")

    def words(self, output: Path, source: Path | None = None) -> str:
        """The command line."""
        return self.job.words.replace("{input}", str(source or self.folder / "in")).replace("{output}", str(output))

    def attempt(self, before: Callable[[Path], None], what: str, *, lift: Callable[[Path], None] | None = None) -> None:
        """Run with a fault that `before` causes in the new process, judge, remove the fault, and run again."""
        self.count += 1
        self.tally.tried += 1
        output, verdict = self.folder / f"fault{self.count}", self.folder / "verdict"
        output.mkdir()
        verdict.unlink(missing_ok=True)

        def judged() -> None:
            before(output)
            first = os.fork()
            if first == 0:
                return  # continues as the command
            ended = process.wait(first, self.log)
            if lift is not None:
                lift(output)
            wrong = (
                [] if ended.in_words and ended.code in (0, 1, 2) else [f"ends with {ended.code}: {ended.text[-300:]}"]
            )
            wrong += damage(output)
            again = process.run(self.words(output), self.folder / "log2")
            if again.code or digest(output) != self.expected:
                names = [n for n, v in self.expected.items() if digest(output).get(n) != v]
                wrong.append(f"the next start ends with {again.code}, differing: {names} {again.text[-300:]}")
            verdict.write_text(f"{ended.code}\n" + "\n".join(f"{what}: {item}" for item in wrong))
            os._exit(0)

        process.wait(process.start(self.words(output), self.log, before=judged), self.log)
        told = verdict.read_text().splitlines() if verdict.exists() else ["70", f"{what}: no verdict"]
        self.tally.well += told[0] == "0"
        self.tally.told += told[0] in ("1", "2")
        self.tally.losses += told[1:]
        shutil.rmtree(output, ignore_errors=True)


def mount(place: Path, size_kib: int, flags: int = 0) -> None:
    """Mount a small file system at a path, visible only to this process and its children."""
    _libc("mount", b"torture", os.fsencode(place), b"tmpfs", flags, f"size={size_kib}k".encode())


def alone() -> None:
    """Give this process its own mount namespace; without root also a user namespace."""
    uid, gid = os.getuid(), os.getgid()
    _libc("unshare", NEW_MOUNTS | (0 if uid == 0 else NEW_USER))
    if uid:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    _libc("mount", None, b"/", None, PRIVATE, None)


def _libc(name: str, *arguments: Any) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)


def can_mount() -> bool:
    """Whether this system lets us mount file systems."""
    process_number = os.fork()
    if process_number == 0:
        try:
            alone()
            os._exit(0)
        except OSError:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(process_number, 0)[1]) == 0


def full_disk(stand: Stand) -> None:
    """Disks with room for part of the result; then with enough."""
    need = sum(path.stat().st_size for path in (stand.folder / "reference").rglob("*") if path.is_file()) // 1024

    def small(size: int) -> Callable[[Path], None]:
        def before(output: Path) -> None:
            alone()
            mount(output, size)

        return before

    for share in (0.01, 0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 0.95, 1.1):
        size = max(8, int(need * share))
        stand.attempt(small(size), f"disk of {size} KiB", lift=lambda output: mount(output, 20 * need + 65536, REMOUNT))


def read_only(stand: Stand) -> None:
    """An output folder that is read-only; then writable."""

    def before(output: Path) -> None:
        alone()
        mount(output, 65536)
        mount(output, 65536, REMOUNT | READ_ONLY)

    stand.attempt(before, "read-only output", lift=lambda output: mount(output, 65536, REMOUNT))


def temporary_folder(stand: Stand) -> None:
    """A temporary folder that is full or read-only, while every array is to be stored there."""

    def before(flags: int, size: int) -> Callable[[Path], None]:
        def fault(output: Path) -> None:
            from diffseglung.platform import out_of_core

            alone()
            place = output.parent / "tmp"
            place.mkdir(exist_ok=True)
            mount(place, size)
            if flags:
                mount(place, size, REMOUNT | flags)
            import tempfile

            tempfile.tempdir, out_of_core.LARGE_MIB = str(place), 0
            os.environ["TMPDIR"] = str(place)

        return fault

    stand.attempt(before(0, 64), "full temporary folder")
    stand.attempt(before(READ_ONLY, 64), "read-only temporary folder")


def little_memory(stand: Stand) -> None:
    """Ever less memory; then enough."""

    def before(mib: int) -> Callable[[Path], None]:
        def fault(output: Path) -> None:
            status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
            now = int(status["VmData"].split()[0]) * 1024
            resource.setrlimit(resource.RLIMIT_DATA, (now + mib * 2**20, resource.RLIM_INFINITY))

        return fault

    def lift(output: Path) -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    for mib in (8, 48, 72, 88, 104, 128, 160, 192, 224, 256, 384, 512):
        stand.attempt(before(mib), f"{mib} MiB of memory", lift=lift)


def clocks(stand: Stand) -> None:
    """A clock that is a day slow, ten years fast, or jumps back and forth."""
    draw = random.Random(0)
    shifts: dict[str, Callable[[], float]] = {
        "a day back": lambda: -86400.0, "ten years ahead": lambda: 3.2e8, "jumping": lambda: draw.uniform(-1e6, 1e6)
    }  # fmt: skip
    for name, shift in shifts.items():

        def before(output: Path, shift: Callable[[], float] = shift) -> None:
            real = time.time

            class Clock(datetime.datetime):
                @classmethod
                def now(cls, tz: Any = None) -> Any:
                    return cls.fromtimestamp(time.time(), tz)

            time.time = lambda: real() + shift()
            time.time_ns = lambda: int(1e9 * time.time())
            datetime.datetime = Clock  # type: ignore[misc]

        stand.attempt(before, f"clock {name}")


def vanishing_source(stand: Stand) -> None:
    """Input that is truncated or removed while it is read; then restored."""
    kept = stand.folder / "kept"
    shutil.copytree(stand.folder / "in", kept)
    draw = random.Random(1)
    for trial in range(12):
        cut, delay = trial % 2 == 0, draw.uniform(0.0, 0.3)

        def before(output: Path, cut: bool = cut, delay: float = delay) -> None:
            def act() -> None:
                time.sleep(delay)
                for path in (stand.folder / "in").rglob("*"):
                    if path.is_file():
                        os.truncate(path, path.stat().st_size // 2) if cut else path.unlink(missing_ok=True)

            threading.Thread(target=act, daemon=True).start()

        def lift(output: Path) -> None:
            time.sleep(0.5)
            shutil.copytree(kept, stand.folder / "in", dirs_exist_ok=True)

        stand.attempt(before, f"source {'cut short' if cut else 'gone'} after {delay:.2f} s", lift=lift)


def stuttering_source(stand: Stand) -> None:
    """Reads that return a few bytes at a time (same result), or fail after some megabytes."""
    shim = stand.folder / "shim.so"
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return
    source = Path(__file__).with_name("short_reads.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", str(shim), str(source), "-ldl"], check=True)
    for number, limits in enumerate(({"SHORT": "7"}, {"SHORT": "1"}, {"FAIL": "0"}, {"FAIL": "300"}, {"FAIL": "3000"})):
        output = stand.folder / f"stutter{number}"
        os.environ.update({"LD_PRELOAD": str(shim), "TORTURE_PLACE": str(stand.folder / "in"), **_torture(limits)})
        ended = process.run(stand.words(output), stand.log, real=True)
        for name in ("LD_PRELOAD", "TORTURE_PLACE", "TORTURE_SHORT", "TORTURE_FAIL"):
            os.environ.pop(name, None)
        tally = stand.tally
        tally.tried += 1
        tally.well += ended.code == 0
        tally.told += ended.code in (1, 2)
        problems = [] if ended.in_words else [f"{limits}: ends with {ended.code}: {ended.text[-300:]}"]
        problems += damage(output) if output.exists() else []
        if ended.code == 0 and digest(output) != stand.expected:
            problems.append(f"{limits}: another result")
        if "SHORT" in limits and ended.code:
            problems.append(f"{limits}: short reads are no error: {ended.text[-300:]}")
        tally.losses += problems


def _torture(limits: dict[str, str]) -> dict[str, str]:
    return {f"TORTURE_{name}": value for name, value in limits.items()}


FAULTS: dict[str, tuple[Callable[[Stand], None], tuple[str, ...], bool]] = {
    "full disk": (full_disk, ("segment", "train", "convert", "precompute"), True),
    "read-only output": (read_only, ("segment", "train", "convert", "precompute"), True),
    "temporary folder": (temporary_folder, ("segment",), True),
    "little memory": (little_memory, ("segment", "train", "convert"), False),
    "clock": (clocks, ("segment", "train", "convert"), False),
    "vanishing source": (vanishing_source, ("segment", "convert", "precompute"), False),
    "stuttering source": (stuttering_source, ("segment",), False),
}
"""Fault -> its function, the commands it is tried on, and whether it needs to mount file systems."""


def all_faults(folder: Path) -> dict[str, dict[str, object]]:
    """Try every fault on each of its commands; returns the tallies."""
    found: dict[str, dict[str, object]] = {}
    mounts = can_mount()
    for name, (bring, jobs, needs_mounts) in FAULTS.items():
        if needs_mounts and not mounts:
            print(f"  {name}: skipped, mounting is not allowed here", flush=True)
            continue
        total = Tally()
        for job in jobs:
            stand = Stand(BY_NAME[job], folder / name.replace(" ", "-") / job)
            bring(stand)
            for key in ("tried", "well", "told"):
                setattr(total, key, getattr(total, key) + getattr(stand.tally, key))
            total.losses += [f"{job}: {text}" for text in stand.tally.losses]
        found[name] = vars(total)
        print(f"  {name}: {vars(total)}", flush=True)
    return found
