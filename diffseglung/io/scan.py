"""`Scan`: a volume with what its file said about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffseglung.volume import Volume


@dataclass(frozen=True)
class Frame:
    """Where one slice of a volume came from.  number: of the frame in a multi-frame file, from 1; else None."""

    path: Path
    number: int | None = None


@dataclass(frozen=True, eq=False)
class Scan:
    """What a reader returns.

    volume: values as stored after the file's own scaling (not yet checked to be HU).
    notes:  sentences for the user: what had to be assumed, what limits the result.
    source: plain JSON values: format, and what the header tells of the acquisition. Never names, dates or ids of a
            patient; a DICOM series is identified by a hash of its UID.
    frames: one for each slice along Z, in order, where the volume lies on the grid of DICOM images; else empty.
    """

    volume: Volume
    notes: list[str] = field(default_factory=list)
    source: dict[str, Any] = field(default_factory=dict)
    frames: tuple[Frame, ...] = ()
