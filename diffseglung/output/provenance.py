"""Where a result comes from: enough to make it again and to tell whether it is the same."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffseglung.io import Scan, scan_name
from diffseglung.io.identity import names_patient
from diffseglung.platform.out_of_core import slabs
from diffseglung.platform.serialization import readable
from diffseglung.volume import Volume


def fingerprint(volume: Volume) -> str:
    """SHA-256 of a volume's type, shape, affine and values: equal for equal scans, whatever format they came in."""
    digest = hashlib.sha256(f"{volume.array.dtype.str} {volume.shape}".encode())
    digest.update(np.ascontiguousarray(volume.affine, "<f8").tobytes())
    for planes in slabs(volume.array):
        digest.update(np.ascontiguousarray(volume.array[planes]).data)
    return digest.hexdigest()


@dataclass(frozen=True)
class Origin:
    """The files of a scan.  mask: of its lungs, where they were given.  name: what to call it (default: the path's).

    keep: write identifying attributes and paths too.
    """

    path: Path
    mask: Path | None = None
    name: str | None = None
    keep: bool = False


def source_record(scan: Scan, origin: Origin) -> dict[str, Any]:
    """What run.json tells of the input files.

    Paths that name the patient of a DICOM scan are null, and its identity is left out, unless `origin.keep`.
    """

    def told(path: Path | None) -> str | None:
        whole = None if path is None else path.absolute()
        return (
            None
            if whole is None or (not origin.keep and names_patient(str(whole), scan.identity))
            else readable(str(whole))
        )

    record = {"path": told(origin.path), "lung_mask": told(origin.mask), "series": scan.source.get("series_hash")}
    return record | ({"identifiers": dict(scan.identity)} if origin.keep else {})


def told_name(scan: Scan, origin: Origin, volume_hash: str) -> str:
    """What records and pictures call a scan: its name, or `scan-<fingerprint>` where that is the patient's."""
    name = origin.name or scan_name(origin.path)
    return name if origin.keep or not names_patient(name, scan.identity) else f"scan-{volume_hash[:8]}"
