"""A labelled DICOM series on an oblique, flipped grid, as files, scan and result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffseglung import output
from diffseglung.io import read_scan
from diffseglung.io.scan import Scan
from diffseglung.output import Products
from diffseglung.output.statistics import measure
from diffseglung.segmentation import Segmentation
from diffseglung.volume import Volume
from tests.conftest import make_chest
from tests.io.conftest import write_series_of


@dataclass(frozen=True, eq=False)
class Labelled:
    """A series in a folder, what the reader made of it, and labels on its grid."""

    folder: Path
    scan: Scan
    result: Segmentation


def identify_patient(dataset: Any, k: int) -> None:
    """What a hospital's series holds besides its images."""
    dataset.StudyInstanceUID = "1.2.826.0.1.3680043.8.498.77"
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID = "20200102", "030405", "7"
    dataset.AccessionNumber, dataset.ReferringPhysicianName = "A-17", "Doctor^Some"
    dataset.PatientBirthDate, dataset.PatientSex, dataset.PatientAge = "19500607", "F", "069Y"
    dataset.StudyDescription, dataset.PositionReferenceIndicator = "Thorax", ""
    dataset.Manufacturer = "Maker"


@pytest.fixture
def labelled(tmp_path: Path) -> Labelled:
    """The chest of tests/conftest.py as a DICOM series, read again, with its labels: the test's own."""
    return label_series(tmp_path / "series")


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Labelled:
    """The same for tests that only look at it."""
    return label_series(tmp_path_factory.mktemp("kept") / "series")


@pytest.fixture(scope="session")
def written(kept: Labelled, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of all that is written of `kept`, for tests that only look at it."""
    folder = tmp_path_factory.mktemp("written") / "out"
    products = Products(preview=False, report=False, dicom=("seg", "sr", "sc"))
    output.write(kept.result, folder, products, frames=kept.scan.frames)
    return folder


def label_series(folder: Path) -> Labelled:
    """Every second slice of the chest as a series in `folder`, read again, with its labels."""
    chest = make_chest()
    affine = chest.ct.affine @ np.diag([2.0, 1, 1, 1])
    thin = [Volume(np.ascontiguousarray(v.array[::2]), affine) for v in (chest.ct, chest.lungs, chest.label_map)]
    write_series_of(folder, thin[0], edit=identify_patient)
    scan = read_scan(folder)
    turned = _on_grid(thin[1:], scan)
    parts = scan.volume, scan.volume.with_array(turned[0]), scan.volume.with_array(turned[1])
    run = {**chest.run, "settings": {"method": "context", "fusion": True}}
    return Labelled(folder, scan, Segmentation(*parts, measure(*parts), None, run))


def _on_grid(volumes: list[Volume], scan: Scan) -> list[np.ndarray]:
    """Lungs and labels in the slice order that the reader chose."""
    run = volumes[0].affine[:3, 0] @ scan.volume.affine[:3, 0] > 0
    return [np.ascontiguousarray(v.array if run else v.array[::-1]) for v in volumes]
