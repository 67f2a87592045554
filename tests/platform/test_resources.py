"""Cores and memory: what a container grants, what a user narrows, and that the narrowing holds."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from diffseglung.cli.exit_codes import told
from diffseglung.platform import resources
from diffseglung.platform.errors import ConfigError

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@pytest.mark.parametrize(
    ("quota", "granted"), [("50000 100000", 1), ("150000 100000", min(2, CORES)), ("max 100000", CORES), ("", CORES)]
)
def test_a_containers_share_of_the_cores_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, granted: int
) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(resources, "CGROUP", tmp_path)
    assert resources.cores() == granted


def test_memory_is_the_least_of_what_the_machine_has_and_the_container_grants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "CGROUP", tmp_path)
    monkeypatch.setattr(resources, "MEMINFO", tmp_path / "meminfo")
    assert resources.memory_bytes() is None
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable: 4000 kB\n")
    assert resources.memory_bytes() == 4000 * 1024
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    assert resources.memory_bytes() == 2_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert resources.memory_bytes() == 4000 * 1024


@pytest.mark.parametrize("threads", [0, -2])
def test_threads_are_counted_from_one(threads: int) -> None:
    with pytest.raises(ConfigError, match="--threads"):
        resources.limit_threads(threads)


@pytest.mark.parametrize("gib", [0.0, 0.5, -1.0, float("nan")])
def test_a_limit_in_which_nothing_fits_is_refused(gib: float) -> None:
    with pytest.raises(ConfigError, match="--max-memory"):
        resources.limit_memory(gib)


def in_a_process(code: str) -> str:
    free = {name: value for name, value in os.environ.items() if name not in resources.THREAD_VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, env=free
    )
    return done.stdout.strip()


def test_threads_reach_every_library_that_computes() -> None:
    code = (
        "from diffseglung.platform import resources; resources.limit_threads(1)\n"
        "import torch, SimpleITK as itk; print(torch.get_num_threads(), "
        "itk.ProcessObject.GetGlobalDefaultNumberOfThreads())"
    )
    assert in_a_process(code) == "1 1"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the system's limit is Linux's")
def test_the_system_refuses_memory_above_the_limit_and_what_is_left_is_told() -> None:
    code = (
        "from diffseglung.platform import resources; resources.limit_memory(1.0)\n"
        "import numpy as np\n"
        "assert resources.memory_bytes() < 2**30\n"
        "try:\n    np.ones(2**30, np.uint8)\nexcept MemoryError:\n    print('refused')"
    )
    assert in_a_process(code) == "refused"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the system's limits are Linux's")
@pytest.mark.parametrize(("kind", "held"), [("RLIMIT_DATA", "VmData"), ("RLIMIT_AS", "VmSize")])
def test_what_a_shell_or_a_queue_limits_is_known(kind: str, held: str) -> None:
    code = (
        "import resource; from diffseglung.platform import resources\n"
        f"now = next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith('{held}:')) * 1024\n"
        f"resource.setrlimit(resource.{kind}, (now + 50 * 2**20, resource.RLIM_INFINITY))\n"
        "assert 40 < resources.memory_bytes() / 2**20 < 51\n"
        "try:\n    resources.require_memory()\nexcept MemoryError:\n    print('refused')"
    )
    assert in_a_process(code) == "refused"


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (MemoryError(), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried"),
            True,
        ),
        (RuntimeError("can't start new thread"), True),
        (ImportError("libx.so: failed to map segment from shared object"), True),
        (ImportError("No module named 'x'"), False),
        (RuntimeError("shapes do not fit"), False),
        (ValueError("can't allocate memory"), False),
    ],
)
def test_a_refusal_of_memory_is_known_in_every_librarys_words(error: Exception, memory: bool) -> None:
    assert resources.is_out_of_memory(error) is memory
    assert (told(error)[0] == "out of memory") is memory
