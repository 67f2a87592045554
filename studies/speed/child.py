"""Run one command in its own process and measure its cost: `python -m studies.speed.child segment -i ...`.

Prints one line of JSON: exit code, peak memory (MiB) of the process, and processor seconds. Without a command it only
imports what `segment` imports, to measure the memory of the interpreter and the libraries.
"""

from __future__ import annotations

import json
import resource
import runpy
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Spent:
    """Cost of a whole process: wall time, processor time of all threads, peak memory."""

    wall_s: float
    cpu_s: float
    peak_mib: float


def peak_mib() -> float:
    """Largest resident memory of this process so far."""
    try:
        with Path("/proc/self/status").open() as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        unit = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def measured(*words: str) -> Spent:
    """Cost of `diffseglung WORDS` from a cold start.  Raises RuntimeError with its standard error if it fails."""
    begin = time.perf_counter()
    call = [sys.executable, "-m", "studies.speed.child", *words]
    done = subprocess.run(call, capture_output=True, text=True)  # noqa: S603
    wall = time.perf_counter() - begin
    told = json.loads(done.stdout.splitlines()[-1]) if done.stdout.strip() else {"code": done.returncode or 1}
    if told["code"]:
        raise RuntimeError(f"diffseglung {' '.join(words)}: {done.stderr.strip()}")
    return Spent(wall, told["cpu_s"], told["peak_mib"])


@cache
def libraries_mib() -> float:
    """Memory of the interpreter and the libraries before any work."""
    return measured().peak_mib


def main(words: list[str]) -> int:
    """Run the command, then print its cost."""
    code: object = 0
    if words:
        sys.argv = ["diffseglung", *words]
        try:
            runpy.run_module("diffseglung", run_name="__main__")
        except SystemExit as end:
            code = end.code or 0
    else:
        import diffseglung.output
        import diffseglung.pipeline  # noqa: F401
    used = resource.getrusage(resource.RUSAGE_SELF)
    sys.stdout.write(json.dumps({"code": code, "peak_mib": peak_mib(), "cpu_s": used.ru_utime + used.ru_stime}) + "\n")
    return 1 if code else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
