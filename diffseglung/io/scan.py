"""`Scan`: a volume with what its file said about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from diffseglung.volume import Volume


@dataclass(frozen=True, eq=False)
class Scan:
    """What a reader returns.

    volume: values as stored after the file's own scaling (not yet checked to be HU).
    notes:  sentences for the user: what had to be assumed, what limits the result.
    source: plain JSON values: format, and what the header tells of the acquisition. Never names, dates or ids of a
            patient; a DICOM series is identified by a hash of its UID.
    """

    volume: Volume
    notes: list[str] = field(default_factory=list)
    source: dict[str, Any] = field(default_factory=dict)
