"""`Scan`: a volume with what its file said about it, and `Frame`: where one of its slices lies."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffseglung.volume import Volume


@dataclass(frozen=True)
class Frame:
    """Where one slice of a DICOM scan lies: its file, and its frame (from 1) where the file holds several."""

    path: Path
    number: int | None = None


@dataclass(frozen=True, eq=False)
class Scan:
    """What a reader returns.

    volume: values as stored after the file's own scaling (not yet checked to be HU).
    notes:  sentences for the user: what had to be assumed, what limits the result.
    source: plain JSON values: format, and what the header tells of the acquisition. Never names, dates or ids of a
            patient; a DICOM series is identified by a hash of its UID.
    frames: one entry for each slice of a DICOM scan, in order along the volume's Z axis. Empty for other formats, for
            a grid that was resampled, and for files that are gone (unpacked from an archive).
    identity: who a DICOM scan is of (`io.identity`). For those who ask: nothing writes it on its own account.
    """

    volume: Volume
    notes: list[str] = field(default_factory=list)
    source: dict[str, Any] = field(default_factory=dict)
    frames: tuple[Frame, ...] = ()
    identity: dict[str, str] = field(default_factory=dict, repr=False)
