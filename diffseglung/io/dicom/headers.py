"""DICOM files opened, and their headers: one `Slice` for each image, many for an enhanced multi-frame file.

Files without the preamble of PS3.10, which old archives write, are read too. Of a multi-frame file the attributes come
from the frame's functional groups, then from the shared ones, then from the file (PS3.3 C.7.6.16).
"""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag, Tag

from diffseglung.io.dicom.slices import ENHANCED_CT, TAGS, Fields, Slice, slice_of
from diffseglung.io.identity import TAGS as IDENTIFYING
from diffseglung.io.identity import identity_of
from diffseglung.platform.errors import InputError

MOST_DISORDER, PIXELS = 100, (0x7FE00008, 0x7FE00009, 0x7FE00010)
_BARE = re.compile(
    rb"[\x02\x08]\0(\0\0(UL\x04\0|\x04\0\0\0)|[\x01\x05\x08\x12-\x18]\0([A-Z]{2}[\0-\x80]\0|[\0-\x80]\0\0\0))"
)
"""How a data set without a preamble begins: an element of group 2 or 8, short, with or without its type in letters."""


def read_headers(path: Path) -> tuple[Slice, ...]:
    """The images of a DICOM file; none for another file. Raises InputError for one that is damaged."""
    with suspicious(path, "its header"):
        try:
            dataset = open_dataset(path, TAGS)
        except InvalidDicomError:
            return ()
        if str(dataset.get("SOPClassUID", "")) in ENHANCED_CT:
            return _frames(path, dataset)
        return (slice_of(path, dataset, Fields(dataset), None),)


def read_identity(path: Path) -> dict[str, str]:
    """Who the images of a DICOM file are of: attribute -> text. Raises InputError for a file that is damaged."""
    with suspicious(path, "its header"):
        return identity_of(open_dataset(path, list(IDENTIFYING)))


def legible(path: Path) -> tuple[str, str]:
    """Modality and SeriesInstanceUID of a damaged file, each where the file can be read as far as that; else empty."""
    found = {"Modality": "", "SeriesInstanceUID": ""}
    for keyword in found:
        with suppress(Exception), warnings.catch_warnings():  # a damaged file can fail anywhere in the reader
            warnings.simplefilter("ignore")
            found[keyword] = str(open_dataset(path, [keyword], last=Tag(keyword)).get(keyword) or "").strip()
    return found["Modality"].upper(), found["SeriesInstanceUID"]


@contextmanager
def suspicious(path: Path, what: str) -> Iterator[None]:
    """A damaged file can fail anywhere in the reader: whatever it raises ends as InputError, and warnings stay in."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except PermissionError as cause:
        raise InputError(f"{path.name} may not be read", remedy="give yourself the right to read the files") from cause
    except Exception as cause:
        reason = next(iter(str(cause).splitlines()), type(cause).__name__)[:120]
        raise InputError(
            f"{path.name} is damaged: {what} cannot be read ({reason})", remedy="copy the series again"
        ) from cause


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM does, with the preamble of PS3.10 or without.  Raises OSError."""
    with path.open("rb") as file:
        return begins(file.read(132))


def begins(head: bytes) -> bool:
    """Whether a file that begins with these 132 bytes is DICOM."""
    return head[128:132] == b"DICM" or (len(head) >= 132 and bool(_BARE.match(head)))


def _end(pixels: bool, last_wanted: BaseTag | None) -> Callable[[BaseTag, str | None, int], bool]:
    """Tells pydicom where to stop: behind the last that is wanted, at the pixels, or behind them.

    Elements come in ascending order (PS3.5 section 7.1); a file in which they do not, again and again, is no data set.
    """
    last, disorder = -1, 0

    def stop(tag: BaseTag, kind: str | None, length: int) -> bool:
        nonlocal last, disorder
        disorder += tag <= last
        if disorder > MOST_DISORDER:
            raise ValueError("its elements are in no order")
        ends = last >= PIXELS[-1] if pixels else tag in PIXELS or (last_wanted is not None and tag > last_wanted)
        last = int(tag)
        return ends

    return stop


def _known(tags: list[str] | None) -> list[BaseTag | int] | None:
    """What `dcmread` makes of names: their tags, and that of the character set."""
    return None if tags is None else [Tag(0x00080005), *(Tag(name) for name in tags)]


class Bounded(io.BufferedReader):
    """A file that is never asked for more than it holds: a damaged length would make room for gigabytes first."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self.left = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """At most `size` bytes, all that is left for None or less than 0."""
        left = max(self.left - self.tell(), 0)
        return super().read(left if size is None or size < 0 else min(size, left))


def open_dataset(
    path: Path, tags: list[str] | None = None, *, pixels: bool = False, last: BaseTag | None = None
) -> Any:
    """The data set of a file, with its transfer syntax set; only `tags` where they are given, none behind `last`.

    Raises InvalidDicomError for a file that is no DICOM by its first bytes, and anything at all for a damaged one.
    """
    if not is_dicom(path):
        raise InvalidDicomError(path.name)
    with Bounded(path) as file:
        dataset: Any = read_partial(file, stop_when=_end(pixels, last), force=True, specific_tags=_known(tags))
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        dataset.file_meta.TransferSyntaxUID = (
            pydicom.uid.ExplicitVRBigEndian
            if not little
            else pydicom.uid.ImplicitVRLittleEndian
            if implicit
            else pydicom.uid.ExplicitVRLittleEndian
        )
    return dataset


def _frames(path: Path, dataset: Any) -> tuple[Slice, ...]:
    """Each frame with what its functional groups say of it."""
    shared = dataset.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()]
    own = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])
    count = int(dataset.get("NumberOfFrames") or len(own) or 1)
    if len(own) != count:
        raise ValueError(f"{count} frames, {len(own)} functional groups")
    common = _items(shared[0])
    return tuple(
        slice_of(path, dataset, Fields(*_items(group), *common, dataset), number)
        for number, group in enumerate(own, start=1)
    )


def _items(group: Any) -> list[Any]:
    """The first item of each sequence in a functional group."""
    return [element.value[0] for element in group if element.VR == "SQ" and element.value]
