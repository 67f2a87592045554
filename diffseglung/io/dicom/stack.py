"""The images of one DICOM series as a regular stack in HU; every defect is one error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from diffseglung.io.dicom.checks import UNSPECIFIED, check, in_order, same_place
from diffseglung.io.dicom.grid import normal_of, resample
from diffseglung.io.dicom.headers import read_identity
from diffseglung.io.dicom.pixels import read_images
from diffseglung.io.dicom.series import is_sharp
from diffseglung.io.dicom.slices import Slice
from diffseglung.io.scan import Frame, Scan
from diffseglung.platform.errors import InputError
from diffseglung.platform.out_of_core import zeros
from diffseglung.volume import Volume


def read_series(slices: Sequence[Slice], name: str) -> Scan:
    """One series as HU (Z, Y, X), Z along the slice normal. `name` stands for it in messages.

    Tilted or slightly uneven stacks are resampled (a note says so); such a scan has no `frames`.
    """
    grid = check(slices, name)
    ordered, images, doubles = _load(in_order(slices), name)
    volume = resample(images, grid) if grid.resampled else images
    first = ordered[0]
    source = {
        "format": "DICOM",
        "series_hash": first.series_hash,
        "slices": len(ordered),
        "kernel": first.kernel or None,
        "slice_thickness_mm": first.thickness_mm,
        "tube_kv": first.tube_kv,
        "scanner": first.scanner or None,
        "grid": "resampled" if grid.resampled else "original",
    }
    frames = () if grid.resampled else tuple(Frame(s.path, s.frame) for s in ordered)
    notes = [*grid.notes, *_notes(first, doubles)]
    return Scan(Volume(volume, grid.affine), notes, source, frames, read_identity(first.path))


def _notes(first: Slice, doubles: int) -> list[str]:
    notes = []
    if doubles:
        notes.append(f"exact copies of other slices were left out ({doubles})")
    if first.intercept is None:
        notes.append("the header gives no RescaleIntercept: the stored values were taken as HU, which they look like")
    if first.rescale_type == UNSPECIFIED:
        notes.append(
            "the header leaves the unit open (RescaleType US): the values were taken as HU, which they look like"
        )
    if is_sharp(first.kernel):
        notes.append(f"kernel {first.kernel} is sharp: its noise looks like texture; prefer a soft kernel")
    if first.contrast:
        notes.append("contrast agent was given: vessels and enhancing tissue are denser than in a plain scan")
    return notes


def _load(ordered: Sequence[Slice], name: str) -> tuple[list[Slice], NDArray[np.float32], int]:
    """Slices without exact copies, their HU (Z, Y, X), and the number of copies. Raises for unequal doubles."""
    images = zeros((len(ordered), ordered[0].rows, ordered[0].columns), np.float32)
    for k, hu in _images(ordered):
        images[k] = hu
    kept: list[int] = []
    for k, item in enumerate(ordered):
        last = kept[-1] if kept else None
        if last is None or not same_place(item, ordered[last]):
            if len(kept) < k:
                images[len(kept)] = images[k]
            kept.append(k)
        elif not np.array_equal(images[k], images[len(kept) - 1]):
            normal = normal_of(item.cosines, item.path.name)
            raise InputError(
                f"{name} holds two different images at position {item.position @ normal:.2f} mm "
                f"({ordered[last].path.name} and {item.path.name})",
                remedy="separate the reconstructions or time points and pass the folder of one",
            )
    return [ordered[k] for k in kept], images[: len(kept)], len(ordered) - len(kept)


def _images(ordered: Sequence[Slice]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """HU of each image with its place in `ordered`; each file is opened once."""
    by_file = sorted(range(len(ordered)), key=lambda k: (str(ordered[k].path), ordered[k].frame or 0))
    for _, group in groupby(by_file, key=lambda k: ordered[k].path):
        places = list(group)
        yield from zip(places, read_images([ordered[k] for k in places]), strict=True)
