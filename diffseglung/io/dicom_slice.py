"""One DICOM file: its header as plain values, its pixels as HU.

Tags and their meaning: DICOM PS3.3, C.7.6.2 (image plane), C.8.2.1 (CT image), C.7.5.1 (pixel padding).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError

from diffseglung.errors import InputError
from diffseglung.io.itk import silent
from diffseglung.io.plausibility import PADDING_HU

_TAGS = [
    "SOPClassUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "Modality", "ImageType", "PatientID",
    "FrameOfReferenceUID", "Rows", "Columns", "SamplesPerPixel", "NumberOfFrames", "PixelSpacing",
    "ImagePositionPatient", "ImageOrientationPatient", "SliceThickness", "ConvolutionKernel", "Manufacturer",
    "ManufacturerModelName", "ContrastBolusAgent", "KVP",
]  # fmt: skip
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


@dataclass(frozen=True, eq=False, kw_only=True)
class Slice:
    """The header of one file. Lengths in mm, LPS; what a file lacks is None, or empty.

    position: (x, y, z), centre of the first pixel.  cosines: direction of a row (x, y, z), then of a column.
    pixel_spacing: between rows, between columns.
    """

    path: Path
    sop_class: str
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
    pixel_spacing: tuple[float, ...]
    position: NDArray[np.float64]
    cosines: NDArray[np.float64]
    thickness_mm: float | None
    tube_kv: float | None
    kernel: str
    scanner: str
    contrast: bool

    @property
    def is_ct_slice(self) -> bool:
        """A CT image with a place in the patient: no localiser, no screenshot, no report."""
        return (
            self.modality == "CT"
            and not self.sop_class.startswith(_SECONDARY_CAPTURE)
            and "LOCALIZER" not in self.image_type
            and self.rows > 0
            and self.samples == 1
            and (self.frames > 1 or (self.position.size == 3 and self.cosines.size == 6))
        )


def read_header(path: Path) -> Slice | None:
    """The header of a DICOM file; None for another file. Raises InputError for one that is damaged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
            return _slice(path, dataset)
    except (InvalidDicomError, OSError, EOFError):
        return None
    except Exception as cause:  # a damaged file can fail anywhere in the reader
        raise _damaged(path, "its header", cause) from cause


def _slice(path: Path, dataset: Any) -> Slice:
    def text(tag: str) -> str:
        value = dataset.get(tag)
        return "/".join(map(str, value)) if isinstance(value, pydicom.multival.MultiValue) else str(value or "")

    def number(tag: str) -> float | None:
        try:
            return float(dataset.get(tag))
        except (TypeError, ValueError):
            return None

    def numbers(tag: str) -> NDArray[np.float64]:
        value = dataset.get(tag)
        return np.atleast_1d(np.asarray([] if value is None else value, np.float64))

    return Slice(
        path=path,
        sop_class=text("SOPClassUID"),
        series_uid=text("SeriesInstanceUID"),
        series_number="" if dataset.get("SeriesNumber") is None else str(dataset.SeriesNumber),
        description=text("SeriesDescription"),
        modality=text("Modality").strip().upper(),
        image_type=tuple(text("ImageType").upper().split("/")),
        patient_id=text("PatientID"),
        frame_of_reference=text("FrameOfReferenceUID"),
        rows=int(dataset.get("Rows") or 0),
        columns=int(dataset.get("Columns") or 0),
        samples=int(dataset.get("SamplesPerPixel") or 1),
        frames=int(dataset.get("NumberOfFrames") or 1),
        pixel_spacing=tuple(float(v) for v in numbers("PixelSpacing")),
        position=numbers("ImagePositionPatient"),
        cosines=numbers("ImageOrientationPatient"),
        thickness_mm=number("SliceThickness"),
        tube_kv=number("KVP"),
        kernel=text("ConvolutionKernel"),
        scanner=f"{text('Manufacturer')} {text('ManufacturerModelName')}".strip(),
        contrast=bool(text("ContrastBolusAgent")),
    )


def read_pixels(path: Path) -> NDArray[np.float32]:
    """HU (Y, X) of one file: its own slope and intercept, padding at -1024. Raises InputError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset: Any = pydicom.dcmread(path)
            if "PixelData" not in dataset:
                raise InputError(f"{path.name} has no pixels", remedy="copy the series again, completely")
            slope, intercept = float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)
            stored = _stored_values(path, dataset, slope, intercept)
            hu = stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)
            padding = _padding(dataset)
        except InputError:
            raise
        except Exception as cause:  # a damaged file can fail anywhere in the reader
            raise _damaged(path, "its pixels", cause) from cause
    if padding is not None:
        low, high = padding
        hu[(stored >= low) & (stored <= high)] = PADDING_HU
    return hu


def _stored_values(path: Path, dataset: Any, slope: float, intercept: float) -> NDArray[Any]:
    """Pixels before rescaling; compressed ones through pydicom's decoders, else through those of SimpleITK."""
    try:
        return np.asarray(dataset.pixel_array)
    except (RuntimeError, NotImplementedError) as cause:
        syntax = dataset.file_meta.TransferSyntaxUID
        try:
            import SimpleITK

            sitk: Any = SimpleITK
            with silent():
                hu = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
            return np.asarray(np.rint((hu.reshape(hu.shape[-2:]).astype(np.float64) - intercept) / slope))
        except RuntimeError:
            raise InputError(
                f"{path.name} is compressed ({syntax.name}) and cannot be decoded here",
                remedy="pip install pylibjpeg[all], or decompress the series with `gdcmconv --raw`",
            ) from cause


def _padding(dataset: Any) -> tuple[int, int] | None:
    """Stored values that mean `no data`, as a closed range."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return None
    limit = dataset.get("PixelPaddingRangeLimit", value)
    ends = []
    for number in (value, limit):
        number = int.from_bytes(number[:2], "little") if isinstance(number, bytes) else int(number)
        signed = int(dataset.get("PixelRepresentation", 0)) == 1 and number > 32767
        ends.append(number - 65536 if signed else number)
    return min(ends), max(ends)


def _damaged(path: Path, what: str, cause: Exception) -> InputError:
    reason = next(iter(str(cause).splitlines()), type(cause).__name__)[:120]
    return InputError(f"{path.name} is damaged: {what} cannot be read ({reason})", remedy="copy the series again")
