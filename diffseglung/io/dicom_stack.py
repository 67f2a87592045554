"""The files of one DICOM series as a regular stack in HU; every defect is one error.

Tags and their meaning: DICOM PS3.3, C.7.6.2 (image plane), C.8.2.1 (CT image), C.7.5.1 (pixel padding).
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from diffseglung.errors import GeometryError, InputError
from diffseglung.io.itk import silent
from diffseglung.io.plausibility import PADDING_HU
from diffseglung.io.scan import Scan
from diffseglung.volume import Volume

_SHARP = re.compile(
    r"^(B[6-9]\d[a-z]?|[BQ][rlvf][6-9]\d[a-z]?|LUNG|BONE|EDGE|DETAIL|L|YC|YD|FC5\d|FC8\d)$", re.IGNORECASE
)
"""Convolution kernels that vendors recommend for lung or bone display: Siemens, GE, Philips, Canon."""


@dataclass(frozen=True, eq=False)
class Slice:
    """One file of a series and its header (without pixels)."""

    path: Path
    header: Any

    @property
    def position(self) -> NDArray[np.float64]:
        """Centre of the first pixel, (x, y, z) in mm, LPS."""
        return np.array(self.header.ImagePositionPatient, np.float64)

    @property
    def is_multiframe(self) -> bool:
        """Whether the file holds several slices (enhanced CT)."""
        return "NumberOfFrames" in self.header and int(self.header.NumberOfFrames or 1) > 1


def read_series(slices: Sequence[Slice], name: str) -> Scan:
    """One series as HU (Z, Y, X), Z along the slice normal. `name` stands for it in messages."""
    if any(s.is_multiframe for s in slices):
        raise InputError(
            f"{name} holds an enhanced (multi-frame) CT, which is not read directly",
            remedy="convert it to NIfTI with `dcm2niix`, or export it as a classic CT series",
        )
    _require_one_stack(slices, name)
    normal = normal_of(slices[0])
    ordered = sorted(slices, key=lambda s: (float(s.position @ normal), str(s.path)))
    ordered, images, doubles = _load(ordered, normal, name)
    if len(ordered) < 2:
        raise InputError(
            f"{name} has only one slice position: a 2D image, not a scan", remedy="pass the folder with all slices"
        )
    affine = _affine(ordered, normal, name)
    notes = [f"{doubles} files were exact copies of other slices and were left out"] if doubles else []
    header = ordered[0].header
    kernel = header.get("ConvolutionKernel")
    kernel = "/".join(kernel) if isinstance(kernel, pydicom.multival.MultiValue) else str(kernel or "")
    if _SHARP.match(kernel):
        notes.append(
            f"kernel {kernel} is sharp: its noise looks like texture; prefer a soft kernel (e.g. B30f, STANDARD)"
        )
    if str(header.get("ContrastBolusAgent") or ""):
        notes.append("contrast agent was given: vessels and enhancing tissue are denser than in a plain scan")
    uid = str(header.get("SeriesInstanceUID", ""))
    source = {
        "format": "DICOM",
        "series_hash": hashlib.sha256(uid.encode()).hexdigest()[:16],
        "slices": len(ordered),
        "kernel": kernel or None,
        "slice_thickness_mm": _number(header.get("SliceThickness")),
        "tube_kv": _number(header.get("KVP")),
        "scanner": " ".join(str(header.get(tag, "")) for tag in ("Manufacturer", "ManufacturerModelName")).strip()
        or None,
    }
    return Scan(Volume(images, affine), notes, source)


def _number(value: Any) -> float | None:
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None


def normal_of(item: Slice) -> NDArray[np.float64]:
    """Unit normal of the slice plane: row direction x column direction."""
    try:
        cosines = np.array(item.header.ImageOrientationPatient, np.float64)
        normal = np.cross(cosines[:3], cosines[3:])
        length = float(np.linalg.norm(normal))
    except (AttributeError, TypeError, ValueError, IndexError):
        length = 0.0
    if not 0.99 < length < 1.01:
        raise GeometryError(
            f"{item.path.name} has no valid ImageOrientationPatient", remedy="export the series again from its source"
        )
    return np.asarray(normal / length)


def _require_one_stack(slices: Sequence[Slice], name: str) -> None:
    """All files show one patient, one frame of reference, one matrix, one pixel spacing and one orientation."""
    first = slices[0].header
    for tag, word in (("PatientID", "patients"), ("FrameOfReferenceUID", "frames of reference")):
        if len({str(s.header.get(tag, "")) for s in slices}) > 1:
            raise InputError(
                f"{name} mixes {word} in one series", remedy="separate the studies and pass the folder of one series"
            )
    for tag, tolerance in (("Rows", 0.0), ("Columns", 0.0), ("PixelSpacing", 1e-3), ("ImageOrientationPatient", 1e-3)):
        for item in slices:
            one, other = first.get(tag), item.header.get(tag)
            if one is None or other is None:
                raise GeometryError(f"{item.path.name} lacks {tag}", remedy="export the series again from its source")
            if not np.allclose(np.array(one, np.float64), np.array(other, np.float64), atol=tolerance, rtol=0):
                raise GeometryError(
                    f"{name} is a mixed series: {tag} differs between {slices[0].path.name} and {item.path.name}",
                    remedy="separate the stacks into folders and pass one of them",
                )


def _load(
    ordered: Sequence[Slice], normal: NDArray[np.float64], name: str
) -> tuple[list[Slice], NDArray[np.float32], int]:
    """Slices without exact copies, their HU (Z, Y, X), and the number of copies. Raises for unequal doubles."""
    header = ordered[0].header
    images = np.empty((len(ordered), int(header.Rows), int(header.Columns)), np.float32)
    kept: list[Slice] = []
    for item in ordered:
        hu = _pixels(item.path)
        if hu.shape != images.shape[1:]:
            raise InputError(f"{item.path.name} holds an image of shape {hu.shape}", remedy="export the series again")
        if kept and np.linalg.norm(item.position - kept[-1].position) < 1e-3:
            if not np.array_equal(hu, images[len(kept) - 1]):
                raise InputError(
                    f"{name} holds two different images at position {item.position @ normal:.2f} mm "
                    f"({kept[-1].path.name} and {item.path.name})",
                    remedy="separate the reconstructions or time points and pass the folder of one",
                )
            continue
        images[len(kept)] = hu
        kept.append(item)
    return kept, images[: len(kept)], len(ordered) - len(kept)


def _affine(ordered: Sequence[Slice], normal: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """Grid of sorted slices, index (z, y, x). Raises GeometryError for gaps, uneven steps and gantry tilt."""
    positions = np.array([s.position for s in ordered])
    along = positions @ normal
    steps = np.diff(along)
    step = float(np.median(steps))
    run = positions[-1] - positions[0]
    line = positions[0] + np.outer((along - along[0]) / max(along[-1] - along[0], 1e-9), run)
    if step < 0.01 or np.abs(positions - line).max() > 0.5:
        raise GeometryError(
            f"{name} is a mixed series: its slices do not lie one behind the other",
            remedy="separate the stacks into folders and pass one of them",
        )
    drift = float(np.linalg.norm(run - (run @ normal) * normal))
    if drift > 0.02 * abs(float(run @ normal)) + 0.1:
        angle = np.degrees(np.arctan2(drift, abs(float(run @ normal))))
        raise GeometryError(
            f"{name} is sheared by {angle:.1f} degrees: the slices are shifted against each other (gantry tilt)",
            remedy="resample it onto an upright grid first, for example with `dcm2niix` (which corrects the tilt)",
        )
    missing = [
        f"{along[i] + step * k:.1f} mm"
        for i in np.flatnonzero(steps > 1.5 * step)
        for k in range(1, max(2, round(float(steps[i]) / step)))
    ]
    if missing:
        listed = ", ".join(missing[:3]) + (" and others" if len(missing) > 3 else "")
        raise GeometryError(
            f"{name} lacks {len(missing)} of its slices: none at position {listed} along the slice normal",
            remedy="export or copy the complete series again",
        )
    if np.abs(steps - step).max() > max(0.05, 0.1 * step):
        worst = int(np.abs(steps - step).argmax())
        raise GeometryError(
            f"{name} has uneven slice distances: {steps[worst]:.2f} mm after {ordered[worst].path.name}, "
            f"{step:.2f} elsewhere",
            remedy="resample it onto even slices first, or export one reconstruction only",
        )
    cosines = np.array(ordered[0].header.ImageOrientationPatient, np.float64)
    down, across = (float(v) for v in ordered[0].header.PixelSpacing)  # between rows, between columns
    affine = np.eye(4)
    affine[:3, 0] = normal * float(run @ normal) / (len(ordered) - 1)
    affine[:3, 1] = cosines[3:] * down
    affine[:3, 2] = cosines[:3] * across
    affine[:3, 3] = positions[0]
    return affine


def _pixels(path: Path) -> NDArray[np.float32]:
    """HU (Y, X) of one file: its own slope and intercept, padding at -1024."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset: Any = pydicom.dcmread(path)
            if "PixelData" not in dataset:
                raise InputError(f"{path.name} has no pixels", remedy="copy the series again, completely")
            slope, intercept = (
                float(dataset.get("RescaleSlope", 1) or 1),
                float(dataset.get("RescaleIntercept", 0) or 0),
            )
            stored = _stored_values(path, dataset, slope, intercept)
        except (OSError, EOFError, ValueError, AttributeError, KeyError, TypeError) as cause:
            reason = (str(cause).splitlines() or [type(cause).__name__])[0][:120]
            raise InputError(
                f"{path.name} is damaged: its pixels cannot be read ({reason})", remedy="copy the series again"
            ) from cause
    hu = stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    padding = _padding(dataset)
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
