"""What this process may use: cores and memory, and how a user narrows them. Imports nothing heavy.

Containers and job queues grant less than the machine has; what they grant is read from the control groups of Linux
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
"""Below this not even the libraries fit."""
ROOM_MIB = 256
"""What a command needs beyond the libraries that are loaded when it begins."""
THREAD_VARIABLES = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"),
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)
"""What the libraries below read when they are loaded: PyTorch, NumPy and SciPy, SimpleITK."""
REFUSALS = (
    *("can't allocate memory", "Failed to allocate memory", "std::bad_alloc", "could not create a primitive"),
    "could not execute a primitive",
    *("can't start new thread", "failed to map segment", "cannot map zero-fill pages", "cannot allocate memory"),
)
"""What PyTorch, ITK, C++, oneDNN, Python (a thread needs room for its stack) and the loader of libraries say then."""

_limit: int | None = None


def cores() -> int:
    """Processor cores that this process may use: by its affinity, and by the share that its container has."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (CGROUP / "cpu.max").read_text().split()
        return min(count, max(1, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no such group, or "max": no limit
        return count


def memory_bytes() -> int | None:
    """Memory that this process may still take: free on the machine, granted by its container, left of its limit.

    None where nothing can be learnt.
    """
    known = [value for value in (_free_on_machine(), _free_in_group(), _free_below_limit()) if value is not None]
    return max(0, min(known)) if known else None


def thread_variables(threads: int) -> dict[str, str]:
    """Environment of a process that is to compute on so many threads."""
    return dict.fromkeys(THREAD_VARIABLES, str(threads))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a library says that memory was refused; each says it in its own way."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError | ImportError) and any(words in str(error) for words in REFUSALS)


def limit_threads(threads: int) -> None:
    """Compute on so many threads.  Call it before the heavy libraries are loaded.  Raises ConfigError."""
    if threads < 1:
        raise ConfigError(f"--threads is {threads}", remedy="give 1 or more")
    os.environ.update(thread_variables(threads))


def limit_memory(gib: float) -> None:
    """Let this process take so many GiB of data in all, libraries included; the system refuses it more.

    What lies in mapped files (`spool`) does not count: the system takes it out of memory when it needs the room.
    Raises ConfigError.
    """
    global _limit
    if not gib >= LEAST_GIB:
        raise ConfigError(f"--max-memory is {gib:g} GiB", remedy=f"give {LEAST_GIB:g} GiB or more")
    _limit = int(gib * 2**30)
    try:
        import resource
    except ImportError:  # Windows: plans keep to it, the system does not enforce it
        return
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (_limit if hard < 0 else min(_limit, hard), hard))


def require_memory() -> None:
    """Refuse to begin where not even what is loaded later has room: there threads cannot tell that they fail.

    Raises MemoryError.
    """
    free = memory_bytes()
    if free is not None and free < ROOM_MIB * 2**20:
        raise MemoryError(f"{free >> 20} MiB are left")


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
    """What limits of this process leave: its own, or those of a shell or a queue (`ulimit -d`, `ulimit -v`)."""
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
