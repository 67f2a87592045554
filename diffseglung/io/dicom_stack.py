"""The files of one DICOM series as a regular stack; every defect is one error."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from diffseglung.errors import GeometryError, InputError
from diffseglung.io.dicom_slice import Slice, read_pixels
from diffseglung.io.scan import Frame, Scan
from diffseglung.spool import zeros
from diffseglung.volume import Volume

_SHARP = re.compile(
    r"^(B[6-9]\d[a-z]?|[BQ][rlvf][6-9]\d[a-z]?|LUNG|BONE|EDGE|DETAIL|L|YC|YD|FC5\d|FC8\d)$", re.IGNORECASE
)
"""Convolution kernels that vendors recommend for lung or bone display: Siemens, GE, Philips, Canon."""


def read_series(slices: Sequence[Slice], name: str) -> Scan:
    """One series as HU (Z, Y, X), Z along the slice normal. `name` stands for it in messages."""
    if any(s.frames > 1 for s in slices):
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
    first, notes = ordered[0], []
    if doubles:
        notes.append(f"{doubles} files were exact copies of other slices and were left out")
    if _SHARP.match(first.kernel):
        notes.append(f"kernel {first.kernel} is sharp: its noise looks like texture; prefer a soft kernel")
    if first.contrast:
        notes.append("contrast agent was given: vessels and enhancing tissue are denser than in a plain scan")
    source = {
        "format": "DICOM",
        "series_hash": hashlib.sha256(first.series_uid.encode()).hexdigest()[:16],
        "slices": len(ordered),
        "kernel": first.kernel or None,
        "slice_thickness_mm": first.thickness_mm,
        "tube_kv": first.tube_kv,
        "scanner": first.scanner or None,
    }
    return Scan(Volume(images, affine), notes, source, tuple(Frame(s.path) for s in ordered))


def normal_of(item: Slice) -> NDArray[np.float64]:
    """Unit normal of the slice plane: row direction x column direction. Raises GeometryError."""
    normal = np.cross(item.cosines[:3], item.cosines[3:])
    length = float(np.linalg.norm(normal))
    if not 0.99 < length < 1.01:
        raise GeometryError(
            f"{item.path.name} has no valid ImageOrientationPatient", remedy="export the series again from its source"
        )
    return np.asarray(normal / length)


def _require_one_stack(slices: Sequence[Slice], name: str) -> None:
    """All files show one patient, one frame of reference, one matrix, one pixel spacing and one orientation."""
    first = slices[0]
    if len({s.patient_id for s in slices}) > 1 or len({s.frame_of_reference for s in slices}) > 1:
        what = "patients" if len({s.patient_id for s in slices}) > 1 else "frames of reference"
        raise InputError(
            f"{name} mixes {what} in one series", remedy="separate the studies and pass the folder of one series"
        )
    for item in slices:
        if len(item.pixel_spacing) != 2 or min(item.pixel_spacing) <= 0:
            raise GeometryError(
                f"{item.path.name} has no valid PixelSpacing", remedy="export the series again from its source"
            )
        same = {
            "matrix size": (item.rows, item.columns) == (first.rows, first.columns),
            "PixelSpacing": np.allclose(item.pixel_spacing, first.pixel_spacing, atol=1e-3, rtol=0),
            "ImageOrientationPatient": np.allclose(item.cosines, first.cosines, atol=1e-3, rtol=0),
        }
        for what, agrees in same.items():
            if not agrees:
                raise GeometryError(
                    f"{name} is a mixed series: {what} differs between {first.path.name} and {item.path.name}",
                    remedy="separate the stacks into folders and pass one of them",
                )


def _load(
    ordered: Sequence[Slice], normal: NDArray[np.float64], name: str
) -> tuple[list[Slice], NDArray[np.float32], int]:
    """Slices without exact copies, their HU (Z, Y, X), and the number of copies. Raises for unequal doubles."""
    images = zeros((len(ordered), ordered[0].rows, ordered[0].columns), np.float32)
    kept: list[Slice] = []
    for item in ordered:
        hu = read_pixels(item.path)
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
    cosines = ordered[0].cosines
    down, across = ordered[0].pixel_spacing  # between rows, between columns
    affine = np.eye(4)
    affine[:3, 0] = normal * float(run @ normal) / (len(ordered) - 1)
    affine[:3, 1] = cosines[3:] * down
    affine[:3, 2] = cosines[:3] * across
    affine[:3, 3] = positions[0]
    return affine
