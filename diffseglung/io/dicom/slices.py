"""`Slice`: the header of one DICOM image (a file, or a frame of a multi-frame file) as plain values.

Tags and their meaning: DICOM PS3.3, C.7.6.2 (image plane), C.8.2.1 (CT image), C.7.6.16 (functional groups of frames),
C.11.1 (rescaling), C.7.6.1.1.5 (lossy compression).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from diffseglung.io.identity import hash_of

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
"""Enhanced CT and Legacy Converted Enhanced CT: one file, many frames."""
MAX_TEXT = 200
"""Longer than three values of 64 signs; more is a damaged header, which may hold anything."""
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
"""JPEG-LS near-lossless, JPEG 2000, HTJ2K: lossless only where the header says so (LossyImageCompression 00)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Slice:
    """The header of one image. Lengths in mm, LPS; what a file lacks is None, or empty.

    frame: its number in a multi-frame file, from 1; None for a file of one image.
    position: (x, y, z), centre of the first pixel.  cosines: direction of a row (x, y, z), then of a column.
    pixel_spacing: between rows, between columns.  slope, intercept: to HU, of this image.
    lookup: whether a table maps its values instead.  temporal, stack: which of several stacks a frame belongs to.
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
        """Tells the series from others without its UID."""
        return hash_of(self.series_uid)

    @property
    def foreign(self) -> str:
        """What it is instead of a CT slice; empty for a CT slice."""
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
    """Values by keyword from the first of several data sets that has one."""

    def __init__(self, *sources: Any) -> None:
        self.sources = sources

    def value(self, tag: str) -> Any:
        """As pydicom gives it; None where no data set has it, or only empty."""
        found = (source.get(tag) for source in self.sources)
        return next((value for value in found if value is not None and value != ""), None)

    def text(self, tag: str) -> str:
        """Several values joined by a slash; on one line, and cut where no value may be longer (PS3.5 6.2)."""
        value = self.value(tag)
        text = "/".join(map(str, value)) if isinstance(value, pydicom.multival.MultiValue) else str(value or "")
        return "".join(sign if sign.isprintable() else " " for sign in text).strip()[:MAX_TEXT]

    def number(self, tag: str) -> float | None:
        """None where it is none."""
        try:
            return float(self.value(tag))
        except (TypeError, ValueError):
            return None

    def numbers(self, tag: str) -> NDArray[np.float64]:
        """Empty where there are none."""
        value = self.value(tag)
        return np.atleast_1d(np.asarray([] if value is None else value, np.float64))

    def count(self, tag: str, default: int) -> int:
        """A whole number."""
        return int(self.value(tag) or default)


def slice_of(path: Path, dataset: Any, groups: Fields, frame: int | None) -> Slice:
    """One image.  groups: the data set, behind a frame's own functional groups where it has any."""
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
    """Whether values were lost: in this file, or (01, which stays for ever) at any time before."""
    perhaps = syntax in _PERHAPS_LOSSY and stated != "00"
    return stated == "01" or perhaps or syntax.startswith(_ALWAYS_LOSSY)
