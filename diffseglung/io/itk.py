"""NRRD and MetaImage, through SimpleITK. ITK's patient space is LPS, as here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

from diffseglung.errors import GeometryError, InputError
from diffseglung.io.scan import Scan
from diffseglung.volume import Volume

sitk: Any = SimpleITK  # it carries no types


def read(path: Path) -> Scan:
    """Voxels as stored. Raises InputError for a file that is damaged or not a single 3D volume."""
    nrrd = path.suffix.lower() in (".nrrd", ".nhdr")
    _require_header(path, nrrd)
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NrrdImageIO" if nrrd else "MetaImageIO")
    reader.SetFileName(str(path))
    try:
        with silent():
            reader.ReadImageInformation()
            size = reader.GetSize()
            _require_3d(path, size, reader.GetNumberOfComponents())
            keys = reader.GetMetaDataKeys()
            image = reader.Execute()
    except RuntimeError as cause:
        lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
        reason = lines[-1].split("): ")[-1][:120] if lines else "unknown cause"
        raise InputError(
            f"{path} cannot be read as NRRD or MetaImage ({reason})",
            remedy="copy the file again, with its .raw or .zraw neighbour if it has one",
        ) from cause
    array = sitk.GetArrayFromImage(image)  # (..., Z, Y, X)
    affine, dimensions = np.eye(4), len(size)
    axes = np.reshape(image.GetDirection(), (dimensions, dimensions))[:3, :3] * np.array(image.GetSpacing()[:3])
    affine[:3, :3] = axes[:, ::-1]
    affine[:3, 3] = image.GetOrigin()[:3]
    notes = []
    if nrrd and "NRRD_space" not in keys:
        notes.append("the NRRD header gives no orientation; left and right may be swapped")
    try:
        volume = Volume(array.reshape(array.shape[-3:]), affine)
    except GeometryError as error:
        raise GeometryError(f"{path}: {error.problem}", remedy=error.remedy) from error
    return Scan(volume, notes, {"format": "NRRD" if nrrd else "MetaImage"})


def _require_header(path: Path, nrrd: bool) -> None:
    """ITK's MetaImage reader prints to stderr what it does not understand, so look first."""
    with path.open("rb") as file:
        head = file.read(4096)
    if not (head.startswith(b"NRRD") if nrrd else b"NDims" in head):
        raise InputError(
            f"{path} cannot be read as NRRD or MetaImage (it has no such header)",
            remedy="copy the file again; if it is another format, give it that format's ending",
        )


def _require_3d(path: Path, size: tuple[int, ...], components: int) -> None:
    shape = tuple(reversed(size))
    if components != 1:
        raise InputError(
            f"{path} holds {components} numbers a voxel", remedy="export the CT as a plain volume in HU, not in colour"
        )
    if len(size) < 3 or size[2] == 1:
        raise InputError(
            f"{path} is a 2D image (shape {shape})", remedy="pass the whole scan: a volume with all its slices"
        )
    if any(n != 1 for n in size[3:]):
        raise InputError(
            f"{path} has several volumes (shape {shape})", remedy="pick one time point and write it as a 3D file"
        )


@contextmanager
def silent() -> Iterator[None]:
    """ITK's own warnings off; what matters is raised."""
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)
