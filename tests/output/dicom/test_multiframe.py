"""A multi-frame CT gets a segmentation whose frames lie where its own do."""

from __future__ import annotations

from pathlib import Path

import highdicom as hd
import numpy as np

from diffseglung import output
from diffseglung.io import read_scan
from diffseglung.output import Products
from diffseglung.output.dicom import NAMES
from diffseglung.output.statistics import measure
from diffseglung.segmentation import Segmentation
from tests.io.dicom.test_headers import enhanced
from tests.output.dicom.conftest import identify_patient
from tests.output.dicom.test_images import validated


def test_frames_in_another_order_than_slices(tmp_path: Path) -> None:
    scan = read_scan(enhanced(tmp_path / "s" / "ct.dcm", edit=lambda d: identify_patient(d, 0)))
    assert [f.number for f in scan.frames] != sorted(f.number for f in scan.frames)
    labels = np.zeros(scan.volume.shape, np.uint8)
    for z in range(len(labels)):
        labels[z, 3 : 4 + z % 5, 4:9] = 1 + z % 5
    lungs = (labels > 0).astype(np.uint8)
    parts = scan.volume, scan.volume.with_array(lungs), scan.volume.with_array(labels)
    result = Segmentation(*parts, measure(*parts), None, {"settings": {"method": "physics"}})
    output.write(
        result, tmp_path / "out", Products(preview=False, report=False, dicom=("seg", "sr")), frames=scan.frames
    )
    item = hd.seg.segread(tmp_path / "out" / NAMES["seg"])
    volume = item.get_volume(combine_segments=True)
    points = np.argwhere(volume.array > 0)
    assert len(points) == (labels > 0).sum()
    lps = points @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    back = np.linalg.inv(scan.volume.affine)[:3] @ np.column_stack([lps, np.ones(len(lps))]).T
    np.testing.assert_array_equal(labels[tuple(np.rint(back).astype(int))], volume.array[tuple(points.T)])
    assert validated(tmp_path / "out" / NAMES["seg"]) == []
    assert validated(tmp_path / "out" / NAMES["sr"]) == []
