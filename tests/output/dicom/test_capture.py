"""The Secondary Capture shows the picture, pixel by pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from PIL import Image

from diffseglung import output
from diffseglung.output import Products
from diffseglung.output.dicom import NAMES
from tests.output.dicom.conftest import Labelled


def test_pixels_are_those_of_the_preview(labelled: Labelled, tmp_path: Path) -> None:
    output.write(labelled.result, tmp_path / "out", Products(dicom=("sc",)), frames=labelled.scan.frames)
    item = pydicom.dcmread(tmp_path / "out" / NAMES["sc"])
    png = np.asarray(Image.open(tmp_path / "out" / "preview.png").convert("RGB"))
    np.testing.assert_array_equal(item.pixel_array, png)
    assert "Research use only" in item.ImageComments
