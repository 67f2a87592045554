"""Small scans and the DICOM files that hold them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from diffseglung.volume import Volume

SERIES = "1.2.826.0.1.3680043.8.498.1"
WriteSeries = Callable[..., list[Path]]


@pytest.fixture
def chest(oblique_affine: np.ndarray) -> Volume:
    """Two dark boxes in a body in air, with noise, as whole HU on a tilted, flipped, anisotropic grid."""
    hu = np.full((12, 20, 24), -1000.0)
    hu[:, 3:17, 3:21] = 40
    hu[2:10, 6:14, 5:10] = -860
    hu[2:10, 6:14, 13:19] = -850
    noise = np.random.default_rng(1).normal(0, 12, hu.shape)
    return Volume(np.maximum(np.rint(hu + noise), -1024).astype(np.float32), oblique_affine)


@pytest.fixture
def upright(chest: Volume) -> Volume:
    """The same voxels on canonical axes, 2.5 x 0.8 x 0.7 mm."""
    affine = np.zeros((4, 4))
    affine[[2, 1, 0, 3], [0, 1, 2, 3]] = [2.5, 0.8, 0.7, 1]
    affine[:3, 3] = (-10.0, 20.5, 30.25)
    return Volume(chest.array, affine)


@pytest.fixture
def write_series() -> WriteSeries:
    """write(folder, volume, slope=, intercept=, edit=) -> files; edit(dataset, k) changes slice k before saving."""
    return write_series_of


def write_series_of(
    folder: Path,
    volume: Volume,
    *,
    slope: float = 1.0,
    intercept: float = -1024.0,
    edit: Callable[[Any, int], None] | None = None,
) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k in range(volume.shape[0]):
        dataset = _slice(volume, k, slope, intercept)
        if edit is not None:
            edit(dataset, k)
        path = folder / f"{(k * 7) % volume.shape[0]:03d}-{k}.dcm"  # names in another order than positions
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def _slice(volume: Volume, k: int, slope: float, intercept: float) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = pydicom.uid.UID(f"{SERIES}.{k + 1}")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.PatientID, dataset.PatientName = "Secret-Id", "Secret^Name"
    dataset.SeriesInstanceUID, dataset.SeriesNumber, dataset.SeriesDescription = SERIES, 3, "Thorax"
    dataset.FrameOfReferenceUID, dataset.InstanceNumber = "1.2.3.4", k + 1
    axes = volume.affine[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    dataset.ImagePositionPatient = [f"{v:.10g}" for v in volume.affine[:3, 3] + k * axes[:, 0]]
    cosines = np.concatenate([axes[:, 2] / spacing[2], axes[:, 1] / spacing[1]])
    dataset.ImageOrientationPatient = [f"{v:.10g}" for v in cosines]
    dataset.PixelSpacing = [f"{spacing[1]:.10g}", f"{spacing[2]:.10g}"]
    dataset.SliceThickness = f"{spacing[0]:.10g}"
    dataset.RescaleSlope, dataset.RescaleIntercept = f"{slope:g}", f"{intercept:g}"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    set_pixels(dataset, np.rint((volume.array[k] - intercept) / slope))
    return dataset


def set_pixels(dataset: Any, stored: np.ndarray) -> None:
    """Put stored values (Y, X) into a dataset."""
    dataset.Rows, dataset.Columns = stored.shape
    dataset.PixelData = stored.astype("<i2").tobytes()
