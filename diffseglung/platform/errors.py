"""Errors a user can act on.

DiffSegLungError
├── InputError          a file, a series or an array is not what the stage needs
│   └── GeometryError   two grids disagree, or a grid is not regular
├── ConfigError         a setting or a command line is unknown or out of range
├── CheckpointError     a weights file cannot be used here
├── TrainingError       a training run cannot continue
├── ToolError           an external tool failed
└── OutputError         some files of a result could not be written
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class DiffSegLungError(Exception):
    """Base class: `problem` says what was found, `remedy` what to do about it.

    >>> print(InputError("ct.nii.gz is empty", remedy="copy it again"))
    ct.nii.gz is empty (try: copy it again)
    """

    def __init__(self, problem: str, *, remedy: str) -> None:
        super().__init__(f"{problem} (try: {remedy})")
        self.problem = problem
        self.remedy = remedy


class InputError(DiffSegLungError):
    """A file, a series or an array is not what the stage needs."""


class GeometryError(InputError):
    """Two grids disagree, or a grid is not regular."""


class ConfigError(DiffSegLungError):
    """A setting or a command line is unknown or out of range."""


class CheckpointError(DiffSegLungError):
    """A weights file cannot be used here."""


class TrainingError(DiffSegLungError):
    """A training run cannot continue."""


class ToolError(DiffSegLungError):
    """An external tool failed."""


class OutputError(DiffSegLungError):
    """Some files of a result could not be written; `files` are those that are complete."""

    def __init__(self, problem: str, *, remedy: str, files: Sequence[Path] = ()) -> None:
        super().__init__(problem, remedy=remedy)
        self.files = list(files)
