"""Warnings are errors in this process (pyproject.toml) and in every Python that a test starts (conftest.py)."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WARN = "import warnings; warnings.warn('gone in 2.0', {category})"
COMMAND = """
import sys, warnings
from diffseglung.cli import info, main

info.run = lambda args: warnings.warn("gone in 2.0", DeprecationWarning)
sys.exit(main(["info"]))
"""


def child(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)


def warn() -> None:
    warnings.warn("gone in 2.0", FutureWarning, stacklevel=1)


@pytest.mark.parametrize("category", ["UserWarning", "DeprecationWarning", "ResourceWarning", "RuntimeWarning"])
def test_a_warning_in_a_child_process_ends_it(category: str) -> None:
    done = child(WARN.format(category=category))
    assert done.returncode == 1
    assert done.stderr.endswith(f"{category}: gone in 2.0\n")


def test_a_warning_within_a_command_makes_it_fail() -> None:
    done = child(COMMAND)
    assert done.returncode == 1
    assert "DeprecationWarning: gone in 2.0" in done.stderr


def test_a_warning_in_a_spawned_worker_ends_it() -> None:
    """As Dask starts its workers, and PyTorch its loaders."""
    worker = multiprocessing.get_context("spawn").Process(target=warn)
    worker.start()
    worker.join(60)
    assert worker.exitcode == 1


def test_a_warning_in_this_process_is_raised() -> None:
    with pytest.raises(FutureWarning):
        warn()
