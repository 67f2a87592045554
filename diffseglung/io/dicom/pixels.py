"""Pixels of a DICOM file as HU.

Stored values: PS3.5 8.1.1 (bits allocated, bits stored, high bit), PS3.3 C.7.6.3. Padding: C.7.5.1.1.2. What pydicom's
decoders cannot unpack is handed to GDCM, which comes with SimpleITK (JPEG lossless).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels.utils import pixel_array
from scipy import ndimage

from diffseglung.io.dicom.headers import open_dataset, suspicious
from diffseglung.io.dicom.slices import Slice
from diffseglung.io.itk import silent
from diffseglung.io.plausibility import PADDING_HU
from diffseglung.platform.errors import InputError

_GDCM = tuple(f"1.2.840.10008.1.2.{tail}" for tail in ("4.57", "4.70", "4.80", "4.81", "4.90", "4.91", "5"))
"""Transfer syntaxes that GDCM knows, without those that always lose: JPEG lossless, JPEG-LS, JPEG 2000, RLE."""


def read_images(slices: Sequence[Slice]) -> Iterator[NDArray[np.float32]]:
    """HU (Y, X) of each image of one file: its own slope and intercept, padding at -1024. Raises InputError."""
    path, dataset = slices[0].path, None
    for item in slices:
        with suspicious(path, "its pixels"):
            dataset = open_dataset(path, pixels=True) if dataset is None else dataset
            hu = _image(dataset, item)
        yield hu


def _image(dataset: Any, item: Slice) -> NDArray[np.float32]:
    if "PixelData" not in dataset or not dataset.PixelData:
        raise InputError(f"{item.path.name} has no pixels", remedy="copy the series again, completely")
    stored = _fitted(_stored_values(item, dataset), item.path, dataset)
    if stored.shape != (item.rows, item.columns):
        raise ValueError(f"shape {stored.shape}")
    slope, intercept = (1.0 if item.slope is None else item.slope), item.intercept or 0.0
    hu = stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    padding = _padding(dataset)
    if padding is not None:
        low, high = padding
        hu[_outside((stored >= low) & (stored <= high), hu)] = PADDING_HU
    return np.asarray(hu, np.float32)


def _outside(padded: NDArray[np.bool_], hu: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Of the pixels (Y, X) that read as padding, those outside the field of view.

    Where the padding value is one that tissue has too, they are those that hang together with a corner.
    """
    if not padded.any() or hu[padded].max() <= PADDING_HU:
        return padded
    parts, _ = ndimage.label(padded)
    corners = parts[[0, 0, -1, -1], [0, -1, 0, -1]]
    return np.asarray(np.isin(parts, corners[corners > 0]))


def _stored_values(item: Slice, dataset: Any) -> NDArray[Any]:
    """Pixels (Y, X) before rescaling; compressed ones through pydicom's decoders, else through GDCM's."""
    index = (item.frame or 1) - 1
    try:
        return np.asarray(pixel_array(dataset, index=index, correct_unused_bits=False))
    except (RuntimeError, NotImplementedError) as cause:
        syntax = dataset.file_meta.TransferSyntaxUID
        if not syntax.is_encapsulated:
            raise
        if syntax not in _GDCM:
            raise InputError(
                f"{item.path.name} is compressed ({syntax.name}) and cannot be decoded here",
                remedy="pip install pylibjpeg pylibjpeg-openjpeg, or export the series again without compression",
            ) from cause
        try:
            return _through_gdcm(dataset, index)
        except RuntimeError:
            raise InputError(
                f"{item.path.name} is damaged: its compressed pixels ({syntax.name}) cannot be decoded",
                remedy="copy the series again, or export it without compression",
            ) from cause


def _through_gdcm(dataset: Any, index: int) -> NDArray[Any]:
    """One frame, handed to SimpleITK as a plain file without rescaling. Raises RuntimeError."""
    import SimpleITK

    sitk: Any = SimpleITK
    frame = pydicom.encaps.get_frame(dataset.PixelData, index, number_of_frames=int(dataset.get("NumberOfFrames") or 1))
    plain = pydicom.Dataset()
    for tag in ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"):
        setattr(plain, tag, dataset.get(tag))
    plain.PhotometricInterpretation, plain.Modality = "MONOCHROME2", "CT"
    plain.SOPClassUID, plain.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "2.25.1"
    plain.PixelData = pydicom.encaps.encapsulate([frame])
    plain["PixelData"].is_undefined_length = True
    plain.file_meta = pydicom.dataset.FileMetaDataset()
    plain.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    with tempfile.TemporaryDirectory(prefix="diffseglung-") as folder, silent():
        path = Path(folder) / "frame.dcm"
        plain.save_as(path, enforce_file_format=True)
        values = np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO="GDCMImageIO")))
    return values.reshape(values.shape[-2:])


def _fitted(stored: NDArray[Any], path: Path, dataset: Any) -> NDArray[Any]:
    """Values of the bits that are stored: shifted to the lowest, the sign taken from the highest of them.

    Bits above may repeat the sign, be zero, or hold an overlay that the header declares; else the header is wrong.
    """
    bits, allocated = int(dataset.BitsStored), int(dataset.BitsAllocated)
    high = int(dataset.get("HighBit", bits - 1))
    if not 0 < bits <= high + 1 <= allocated:
        raise InputError(
            f"{path.name} has impossible pixels: {bits} bits stored, high bit {high}, {allocated} bits allocated",
            remedy="export the series again from its source",
        )
    signed = int(dataset.get("PixelRepresentation", 0)) == 1
    shift = 0 if dataset.file_meta.TransferSyntaxUID.is_encapsulated else high + 1 - bits
    lowest, highest = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    if bits == allocated or (not shift and lowest <= stored.min() and stored.max() <= highest):
        return stored
    wide = stored.astype(np.int64) >> shift
    low = wide & ((1 << bits) - 1)
    values = np.where(low >> (bits - 1), low - (1 << bits), low) if signed else low
    if ((wide != low) & (wide != values)).any() and not _has_overlay_bits(dataset):
        raise InputError(
            f"{path.name} holds values that do not fit into its {bits} stored bits (BitsStored)",
            remedy="export the series again from its source",
        )
    return np.asarray(values)


def _has_overlay_bits(dataset: Any) -> bool:
    """Whether graphics lie in unused bits of the pixels (PS3.3 C.9.2, retired): an overlay without data of its own."""
    planes = range(0x6000, 0x6020, 2)
    return any((group, 0x0010) in dataset and (group, 0x3000) not in dataset for group in planes)


def _padding(dataset: Any) -> tuple[int, int] | None:
    """Stored values that mean `no data`, as a closed range."""
    value = dataset.get("PixelPaddingValue")
    if value is None or value == "":
        return None
    limit = dataset.get("PixelPaddingRangeLimit", value)
    ends = []
    for number in (value, limit):
        number = int.from_bytes(number[:2], "little") if isinstance(number, bytes) else int(number)
        signed = int(dataset.get("PixelRepresentation", 0)) == 1 and number > 32767
        ends.append(number - 65536 if signed else number)
    return min(ends), max(ends)
