"""Cores and memory that this process may use, and how a user limits them. Imports nothing heavy.

Containers and job queues grant less than the machine has; their limits are read from the control groups of Linux
(https://docs.kernel.org/admin-guide/cgroup-v2.html: `cpu.max`, `memory.max`, `memory.current`).
"""

from __future__ import annotations

import errno
import math
import os
from pathlib import Path

from diffseglung.platform.errors import ConfigError

CGROUP, MEMINFO, STATUS = Path("/sys/fs/cgroup"), Path("/proc/meminfo"), Path("/proc/self/status")
LEAST_GIB = 1.0
"""The libraries alone need about this much."""
ROOM_MIB = 256
"""Memory that a command needs at its start."""
THREAD_VARIABLES = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"),
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)
"""Environment variables that PyTorch, NumPy, SciPy and SimpleITK read when they are loaded."""
REFUSALS = (
    *("can't allocate memory", "Failed to allocate memory", "std::bad_alloc", "could not create a primitive"),
    "could not execute a primitive",
    *("can't start new thread", "failed to map segment", "cannot map zero-fill pages", "cannot allocate memory"),
)
"""Messages of PyTorch, ITK, C++, oneDNN, Python (no room for the stack of a thread) and the dynamic linker when memory
is refused."""

_limit: int | None = None


def cores() -> int:
    """Processor cores that this process may use: its affinity, limited by the quota of its container."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (CGROUP / "cpu.max").read_text().split()
        return min(count, max(1, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no control group, or "max": no limit
        return count


def memory_bytes() -> int | None:
    """Memory that this process may still take: the least of what machine, container and process limits leave.

    None if nothing is known.
    """
    known = [value for value in (_free_on_machine(), _free_in_group(), _free_below_limit()) if value is not None]
    return max(0, min(known)) if known else None


def thread_variables(threads: int) -> dict[str, str]:
    """Environment variables of a process that shall use so many threads."""
    return dict.fromkeys(THREAD_VARIABLES, str(threads))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of any library means that memory was refused.

    >>> is_out_of_memory(RuntimeError("std::bad_alloc")), is_out_of_memory(RuntimeError("no such file"))
    (True, False)
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError | ImportError) and any(words in str(error) for words in REFUSALS)


def limit_threads(threads: int) -> None:
    """Use so many threads.  Call it before the heavy libraries are loaded.  Raises ConfigError."""
    if threads < 1:
        raise ConfigError(f"--threads is {threads}", remedy="give 1 or more")
    os.environ.update(thread_variables(threads))


def limit_memory(gib: float) -> None:
    """Limit the data of this process to so many GiB, libraries included; the system refuses more.

    Mapped files (`out_of_core`) do not count, because the system can release them.  Raises ConfigError.
    """
    global _limit
    if not gib >= LEAST_GIB:
        raise ConfigError(f"--max-memory is {gib:g} GiB", remedy=f"give {LEAST_GIB:g} GiB or more")
    _limit = int(gib * 2**30)
    try:
        import resource
    except ImportError:  # Windows: respected by this package, not enforced by the system
        return
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (_limit if hard < 0 else min(_limit, hard), hard))


def require_memory() -> None:
    """Raise MemoryError if there is no room even for the libraries: threads would fail without an error message."""
    free = memory_bytes()
    if free is not None and free < ROOM_MIB * 2**20:
        raise MemoryError(f"{free >> 20} MiB are free")


def _free_on_machine() -> int | None:
    try:
        lines = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines() if ":" in line)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError):
        return None


def _free_in_group() -> int | None:
    try:
        return int((CGROUP / "memory.max").read_text()) - int((CGROUP / "memory.current").read_text())
    except (OSError, ValueError):
        return None


def _free_below_limit() -> int | None:
    """What the limits of this process leave: its own, or those of a shell or queue (`ulimit -d`, `ulimit -v`)."""
    try:
        import resource

        lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines() if ":" in line)
        limits = {
            "VmData": resource.getrlimit(resource.RLIMIT_DATA)[0],
            "VmSize": resource.getrlimit(resource.RLIMIT_AS)[0],
        }
        left = [limit - int(lines[name].split()[0]) * 1024 for name, limit in limits.items() if limit >= 0]
    except (ImportError, OSError, ValueError, KeyError):
        return _limit
    return min(left, default=None)
