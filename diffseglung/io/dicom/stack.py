"""Read the images of one DICOM series as a regular stack in HU; each defect is a specific error.

Stored values: PS3.5 8.1.1 (bits allocated, bits stored, high bit), PS3.3 C.7.6.3. Padding: C.7.5.1.1.2. What pydicom's
decoders cannot decode is passed to GDCM, which is part of SimpleITK (JPEG lossless).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels.utils import pixel_array
from scipy import ndimage

from diffseglung.io.dicom.grid import normal_of, resample
from diffseglung.io.dicom.headers import Slice, open_dataset, read_identity, suspicious
from diffseglung.io.dicom.series import UNSPECIFIED, check, in_order, is_sharp, same_place
from diffseglung.io.itk import silent
from diffseglung.io.plausibility import PADDING_HU
from diffseglung.io.scan import Frame, Scan
from diffseglung.platform.errors import InputError
from diffseglung.platform.out_of_core import zeros
from diffseglung.volume import Volume


def read_series(slices: Sequence[Slice], name: str) -> Scan:
    """One series as HU (Z, Y, X), Z along the slice normal.  name: of the series in messages.

    Tilted or slightly uneven stacks are resampled, with a note; such a scan has no `frames`.
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
        notes.append("the header gives no RescaleIntercept: stored values look like HU and were used as such")
    if first.rescale_type == UNSPECIFIED:
        notes.append("the header gives no unit (RescaleType US): the values look like HU and were used as such")
    if is_sharp(first.kernel):
        notes.append(f"kernel {first.kernel} is sharp: its noise looks like texture; prefer a soft kernel")
    if first.contrast:
        notes.append("contrast agent was given: vessels and enhancing tissue are denser than without contrast")
    return notes


def _load(ordered: Sequence[Slice], name: str) -> tuple[list[Slice], NDArray[np.float32], int]:
    """Slices without exact copies, their HU (Z, Y, X), and the number of copies.

    Raises InputError for two different images at one position.
    """
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
    """Index in `ordered` and HU of each image; each file is opened once."""
    by_file = sorted(range(len(ordered)), key=lambda k: (str(ordered[k].path), ordered[k].frame or 0))
    for _, group in groupby(by_file, key=lambda k: ordered[k].path):
        places = list(group)
        yield from zip(places, read_images([ordered[k] for k in places]), strict=True)


_GDCM = tuple(f"1.2.840.10008.1.2.{tail}" for tail in ("4.57", "4.70", "4.80", "4.81", "4.90", "4.91", "5"))
"""Transfer syntaxes for GDCM, without the always lossy ones: JPEG lossless, JPEG-LS, JPEG 2000, RLE."""


def read_images(slices: Sequence[Slice]) -> Iterator[NDArray[np.float32]]:
    """HU (Y, X) of each image of one file, by its own slope and intercept, padding at -1024 HU. Raises InputError."""
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
        hu[_outside((stored >= padding[0]) & (stored <= padding[1]), hu)] = PADDING_HU
    return np.asarray(hu, np.float32)


def _outside(padded: NDArray[np.bool_], hu: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Of the pixels (Y, X) with the padding value, those outside the field of view.

    If tissue can have that value too, these are the ones connected to a corner.
    """
    if not padded.any() or hu[padded].max() <= PADDING_HU:
        return padded
    parts, _ = ndimage.label(padded)
    corners = parts[[0, 0, -1, -1], [0, -1, 0, -1]]
    return np.asarray(np.isin(parts, corners[corners > 0]))


def _stored_values(item: Slice, dataset: Any) -> NDArray[Any]:
    """Pixels (Y, X) before rescaling, decompressed by pydicom's decoders, else by GDCM."""
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
    """Decode one frame with SimpleITK, from a minimal file without rescaling. Raises RuntimeError."""
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
    """Values of the stored bits, shifted to the lowest, with the sign from the highest of them.

    Higher bits may repeat the sign, be zero, or hold an overlay declared in the header; otherwise InputError is raised.
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
            f"{path.name} holds values that do not fit in its {bits} stored bits (BitsStored)",
            remedy="export the series again from its source",
        )
    return np.asarray(values)


def _has_overlay_bits(dataset: Any) -> bool:
    """Whether unused bits of the pixels hold an overlay, one without data of its own (PS3.3 C.9.2, retired)."""
    planes = range(0x6000, 0x6020, 2)
    return any((group, 0x0010) in dataset and (group, 0x3000) not in dataset for group in planes)


def _padding(dataset: Any) -> tuple[int, int] | None:
    """Lowest and highest stored value that mark pixels without data."""
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
