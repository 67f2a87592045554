"""Open DICOM files and read their headers: one `Slice` for each image, many for an enhanced multi-frame file.

Files without the preamble of PS3.10, as old archives write them, are read too. Tags and their meaning: DICOM PS3.3,
C.7.6.2 (image plane), C.8.2.1 (CT image), C.7.6.16 (functional groups of frames: attributes come from the frame's own
group, else the shared one, else the file), C.11.1 (rescaling), C.7.6.1.1.5 (lossy compression).
"""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag, Tag

from diffseglung.io.identity import TAGS as IDENTIFYING
from diffseglung.io.identity import hash_of, identity_of
from diffseglung.io.scan import reason
from diffseglung.platform.errors import InputError

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
"""Enhanced CT and Legacy Converted Enhanced CT: one file, many frames."""
MAX_TEXT = 200
"""Characters: more than three values of 64; a longer text is from a damaged header."""
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

TAGS = [
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription",
    "Modality", "ImageType", "PatientID", "FrameOfReferenceUID", "Rows", "Columns", "SamplesPerPixel",
    "NumberOfFrames", "PhotometricInterpretation", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient",
    "SliceThickness", "ConvolutionKernel", "Manufacturer", "ManufacturerModelName", "ContrastBolusAgent",
    "ContrastBolusAgentSequence", "KVP", "RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence",
    "LossyImageCompression", "VolumeBasedCalculationTechnique", "TemporalPositionIndex", "StackID",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip

_ALWAYS_LOSSY = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.10")
"""Starts of transfer syntaxes: JPEG baseline, JPEG extended, MPEG and HEVC."""
_PERHAPS_LOSSY = ("1.2.840.10008.1.2.4.81", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.203")
"""JPEG-LS near-lossless, JPEG 2000, HTJ2K: lossless only if the header says so (LossyImageCompression 00)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Slice:
    """The header of one image (a file, or a frame). Lengths in mm, LPS; absent values are None or empty.

    frame: its number in a multi-frame file, from 1; None for a file of one image.
    position: (x, y, z), centre of the first pixel.  cosines: direction of a row (x, y, z), then of a column.
    pixel_spacing: between rows, between columns.  slope, intercept: from this image's stored values to HU.
    lookup: whether a table maps its values instead.  temporal, stack: the stack, of several, a frame belongs to.
    technique: how it was computed from a volume (NONE, MPR, MAX_IP, ...).
    """

    path: Path
    frame: int | None
    sop_class: str
    sop_uid: str
    study_uid: str
    series_uid: str
    series_number: str
    description: str
    modality: str
    image_type: tuple[str, ...]
    patient_id: str
    frame_of_reference: str
    rows: int
    columns: int
    samples: int
    frames: int
    photometric: str
    pixel_spacing: tuple[float, ...]
    position: NDArray[np.float64]
    cosines: NDArray[np.float64]
    thickness_mm: float | None
    slope: float | None
    intercept: float | None
    rescale_type: str
    lookup: bool
    lossy: bool
    temporal: str
    stack: str
    technique: str
    tube_kv: float | None
    kernel: str
    scanner: str
    contrast: bool

    @property
    def series_hash(self) -> str:
        """The pseudonym of its SeriesInstanceUID."""
        return hash_of(self.series_uid)

    @property
    def foreign(self) -> str:
        """The kind of object that this is instead of a CT slice; empty for a CT slice."""
        if self.modality != "CT":
            return self.modality or "unknown"
        if "LOCALIZER" in self.image_type:
            return "localiser"
        if self.sop_class.startswith(_SECONDARY_CAPTURE):
            return "screenshot"
        if self.samples != 1:
            return "colour picture"
        if not self.rows and self.sop_class not in (CT_IMAGE, *ENHANCED_CT):
            return "object without an image"
        return ""


class Fields:
    """Values by keyword, from the first of several data sets that has the keyword."""

    def __init__(self, *sources: Any) -> None:
        self.sources = sources

    def value(self, tag: str) -> Any:
        """The value as pydicom returns it; None if it is absent or empty in all data sets."""
        found = (source.get(tag) for source in self.sources)
        return next((value for value in found if value is not None and value != ""), None)

    def text(self, tag: str) -> str:
        """Printable text on one line, at most MAX_TEXT characters (PS3.5 6.2); several values are joined by a slash."""
        value = self.value(tag)
        text = "/".join(map(str, value)) if isinstance(value, pydicom.multival.MultiValue) else str(value or "")
        return "".join(sign if sign.isprintable() else " " for sign in text).strip()[:MAX_TEXT]

    def number(self, tag: str) -> float | None:
        """A number; None if there is none."""
        try:
            return float(self.value(tag))
        except (TypeError, ValueError):
            return None

    def numbers(self, tag: str) -> NDArray[np.float64]:
        """Numbers (n,); empty if there are none."""
        value = self.value(tag)
        return np.atleast_1d(np.asarray([] if value is None else value, np.float64))

    def count(self, tag: str, default: int) -> int:
        """A whole number."""
        return int(self.value(tag) or default)


def slice_of(path: Path, dataset: Any, groups: Fields, frame: int | None) -> Slice:
    """The header of one image.  groups: a frame's functional groups, if any, then the data set."""
    head, meta = Fields(dataset), dataset.file_meta
    sop_class = head.text("SOPClassUID") or str(meta.get("MediaStorageSOPClassUID", ""))
    number = head.value("SeriesNumber")
    types = groups.text("FrameType") or head.text("ImageType")
    known = sop_class in (CT_IMAGE, *ENHANCED_CT)
    return Slice(
        path=path,
        frame=frame,
        sop_class=sop_class,
        sop_uid=head.text("SOPInstanceUID") or str(meta.get("MediaStorageSOPInstanceUID", "")),
        study_uid=head.text("StudyInstanceUID"),
        series_uid=head.text("SeriesInstanceUID"),
        series_number="" if number is None else str(number)[:16],
        description=head.text("SeriesDescription"),
        modality=head.text("Modality").upper() or ("CT" if known else ""),
        image_type=tuple(types.upper().split("/")),
        patient_id=head.text("PatientID"),
        frame_of_reference=head.text("FrameOfReferenceUID"),
        rows=head.count("Rows", 0),
        columns=head.count("Columns", 0),
        samples=head.count("SamplesPerPixel", 1),
        frames=head.count("NumberOfFrames", 1),
        photometric=head.text("PhotometricInterpretation").upper(),
        pixel_spacing=tuple(float(v) for v in groups.numbers("PixelSpacing")),
        position=groups.numbers("ImagePositionPatient"),
        cosines=groups.numbers("ImageOrientationPatient"),
        thickness_mm=groups.number("SliceThickness"),
        slope=groups.number("RescaleSlope"),
        intercept=groups.number("RescaleIntercept"),
        rescale_type=groups.text("RescaleType").upper(),
        lookup=bool(head.value("ModalityLUTSequence")),
        lossy=_is_lossy(str(meta.get("TransferSyntaxUID", "")), head.text("LossyImageCompression")),
        temporal=groups.text("TemporalPositionIndex"),
        stack=groups.text("StackID"),
        technique=groups.text("VolumeBasedCalculationTechnique").upper(),
        tube_kv=groups.number("KVP"),
        kernel=groups.text("ConvolutionKernel"),
        scanner=f"{groups.text('Manufacturer')} {groups.text('ManufacturerModelName')}".strip(),
        contrast=bool(head.text("ContrastBolusAgent") or head.value("ContrastBolusAgentSequence")),
    )


def _is_lossy(syntax: str, stated: str) -> bool:
    """Whether values were lost: in this file, or earlier (01 remains in the header for good)."""
    perhaps = syntax in _PERHAPS_LOSSY and stated != "00"
    return stated == "01" or perhaps or syntax.startswith(_ALWAYS_LOSSY)


MOST_DISORDER, PIXELS = 100, (0x7FE00008, 0x7FE00009, 0x7FE00010)
_BARE = re.compile(
    rb"[\x02\x08]\0(\0\0(UL\x04\0|\x04\0\0\0)|[\x01\x05\x08\x12-\x18]\0([A-Z]{2}[\0-\x80]\0|[\0-\x80]\0\0\0))"
)
"""Start of a data set without a preamble: a short element of group 2 or 8, with explicit or implicit VR."""


def read_headers(path: Path) -> tuple[Slice, ...]:
    """The images of a DICOM file; none of any other file. Raises InputError for a damaged file."""
    with suspicious(path, "its header"):
        try:
            dataset = open_dataset(path, TAGS)
        except InvalidDicomError:
            return ()
        if str(dataset.get("SOPClassUID", "")) in ENHANCED_CT:
            return _frames(path, dataset)
        return (slice_of(path, dataset, Fields(dataset), None),)


def read_identity(path: Path) -> dict[str, str]:
    """Identifying attributes of a DICOM file: keyword -> text. Raises InputError for a damaged file."""
    with suspicious(path, "its header"):
        return identity_of(open_dataset(path, list(IDENTIFYING)))


def legible(path: Path) -> tuple[str, str]:
    """Modality and SeriesInstanceUID of a damaged file; each is empty if it cannot be read."""
    found = {"Modality": "", "SeriesInstanceUID": ""}
    for keyword in found:
        with suppress(Exception), warnings.catch_warnings():  # a damaged file can fail anywhere in the reader
            warnings.simplefilter("ignore")
            found[keyword] = str(open_dataset(path, [keyword], last=Tag(keyword)).get(keyword) or "").strip()
    return found["Modality"].upper(), found["SeriesInstanceUID"]


@contextmanager
def suspicious(path: Path, what: str) -> Iterator[None]:
    """Turn any error of the reader into InputError and suppress warnings: damaged files can fail anywhere."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except PermissionError as cause:
        raise InputError(f"{path.name} may not be read", remedy="change the permissions of the files") from cause
    except Exception as cause:
        raise InputError(
            f"{path.name} is damaged: {what} cannot be read ({reason(cause)})", remedy="copy the series again"
        ) from cause


def is_dicom(path: Path) -> bool:
    """Whether a file begins like DICOM, with or without the preamble of PS3.10.  Raises OSError."""
    with path.open("rb") as file:
        return begins(file.read(132))


def begins(head: bytes) -> bool:
    """Whether a file that begins with these 132 bytes is DICOM.

    >>> begins(bytes(128) + b"DICM"), begins(b"PK")
    (True, False)
    """
    return head[128:132] == b"DICM" or (len(head) >= 132 and bool(_BARE.match(head)))


def _end(pixels: bool, last_wanted: BaseTag | None) -> Callable[[BaseTag, str | None, int], bool]:
    """A predicate that makes pydicom stop: after the last wanted element, at the pixels, or after them.

    Elements are in ascending order (PS3.5 section 7.1); a file with many elements out of order is rejected.
    """
    last, disorder = -1, 0

    def stop(tag: BaseTag, kind: str | None, length: int) -> bool:
        nonlocal last, disorder
        disorder += tag <= last
        if disorder > MOST_DISORDER:
            raise ValueError("its elements are not in order")
        ends = last >= PIXELS[-1] if pixels else tag in PIXELS or (last_wanted is not None and tag > last_wanted)
        last = int(tag)
        return ends

    return stop


class Bounded(io.BufferedReader):
    """A file of which no more bytes are requested than remain: a damaged length would allocate gigabytes."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self.left = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """At most `size` bytes; the rest of the file for None or a negative size."""
        left = max(self.left - self.tell(), 0)
        return super().read(left if size is None or size < 0 else min(size, left))


def open_dataset(
    path: Path, tags: list[str] | None = None, *, pixels: bool = False, last: BaseTag | None = None
) -> Any:
    """The data set of a file, with its transfer syntax set.

    tags: read only these.  pixels: read pixels too.  last: stop after this tag.
    Raises InvalidDicomError for a file that does not begin like DICOM, and any error for a damaged one.
    """
    if not is_dicom(path):
        raise InvalidDicomError(path.name)
    known: list[BaseTag | int] | None = (
        None if tags is None else [Tag(name) for name in ("SpecificCharacterSet", *tags)]
    )
    with Bounded(path) as file:
        dataset: Any = read_partial(file, stop_when=_end(pixels, last), force=True, specific_tags=known)
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
    """The header of each frame, with its functional groups."""
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
