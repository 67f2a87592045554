"""Each named defect of a DICOM folder is refused in one sentence, or the scan comes out as if it were not there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffseglung.cli import main
from diffseglung.io import read_scan
from diffseglung.io.studies import find_studies
from diffseglung.platform.errors import InputError
from tests.io.dicom_defects import DEFECTS, DOSE, LEFT_OUT, beside, good_volume, put, raw, write_good

REFUSED = sorted(name for name, defect in DEFECTS.items() if defect.refused)
REPAIRED = sorted(name for name, defect in DEFECTS.items() if not defect.refused)


def test_the_good_series_is_read_without_a_word(tmp_path: Path) -> None:
    files = write_good(tmp_path / "series")
    scan, wanted = read_scan(tmp_path / "series"), good_volume()
    assert np.array_equal(scan.volume.array, wanted.array)
    assert np.allclose(scan.volume.affine, wanted.affine)
    assert [frame.path for frame in scan.frames] == files
    assert {frame.number for frame in scan.frames} == {None}
    assert scan.source["grid"] == "original"


def test_there_are_many_defects() -> None:
    assert len(REFUSED) >= 40
    assert len(REPAIRED) >= 20


@pytest.mark.parametrize("name", REFUSED)
def test_defect_is_refused(tmp_path: Path, name: str) -> None:
    DEFECTS[name].damage(write_good(tmp_path / "series"))
    with pytest.raises(InputError, match=DEFECTS[name].refused) as caught:
        read_scan(tmp_path / "series")
    text = str(caught.value)
    assert "\n" not in text
    assert caught.value.remedy
    assert not re.search("Secret|1\\.2\\.826", text)


@pytest.mark.parametrize("name", REPAIRED)
def test_defect_does_not_matter(tmp_path: Path, name: str) -> None:
    defect = DEFECTS[name]
    defect.damage(write_good(tmp_path / "series"))
    scan, wanted = read_scan(tmp_path / "series"), good_volume()
    assert scan.volume.shape == wanted.shape
    assert np.abs(scan.volume.array - wanted.array).max() <= defect.hu
    assert np.allclose(scan.volume.affine, wanted.affine, atol=1e-6)
    assert defect.note in " ".join(scan.notes)
    assert bool(scan.frames) == (scan.source["grid"] == "original")


CLI = [
    "one_slice_missing",
    "sop_uid_used_twice",
    "magnetic_resonance",
    "iodine_map",
    "lossy_jpeg",
    "file_cut_in_its_header",
    "unknown_compression",
    "position_of_letters",
]


@pytest.mark.parametrize("name", CLI)
def test_command_line_says_so_and_writes_nothing(tmp_path: Path, capfd: Any, name: str) -> None:
    DEFECTS[name].damage(write_good(tmp_path / "series"))
    words = ["segment", "-i", str(tmp_path / "series"), "-o", str(tmp_path / "out")]
    assert main(words) == 2
    said = capfd.readouterr().err
    assert re.search(str(DEFECTS[name].refused), said)
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [name for name in REPAIRED if DEFECTS[name].note == LEFT_OUT])
def test_a_damaged_file_beside_costs_no_series(tmp_path: Path, name: str) -> None:
    """Also where the series is named, by the folder of one of its files, and in a cohort."""
    files = write_good(tmp_path / "series")
    DEFECTS[name].damage(files)
    found = [
        read_scan(tmp_path / "series", series_uid="3"),
        read_scan(files[4]),
        *(study.read() for study in find_studies(tmp_path)),
    ]
    assert len(found) == 3
    assert all(np.array_equal(scan.volume.array, good_volume().array) for scan in found)


@pytest.mark.parametrize("name", ["one_slice_cut_in_its_header", "empty_file_called_as_the_next_slice"])
def test_a_series_that_may_lack_a_slice_costs_no_other(tmp_path: Path, name: str) -> None:
    files = write_good(tmp_path / "series")
    other = write_good(tmp_path / "other")
    put(other, SeriesInstanceUID="1.2.3.4.5", SeriesNumber=4)
    if name == "one_slice_cut_in_its_header":
        raw(files[11], "ImagePositionPatient", b"1\\2\\x ")
    else:
        DEFECTS[name].damage(files)
    assert np.array_equal(read_scan(tmp_path, series_uid="4").volume.array, good_volume().array)
    with pytest.raises(InputError, match=r"damaged|is empty"):
        read_scan(tmp_path, series_uid="3")
    assert [study.damage is None for study in find_studies(tmp_path)] == [True, False]


def test_a_damaged_file_that_is_asked_for_is_told(tmp_path: Path) -> None:
    files = write_good(tmp_path / "series")
    dose = beside(files, **DOSE)
    raw(dose, "Rows", b"xx")
    (tmp_path / "series" / "empty.dcm").write_bytes(b"")
    raw(dose, "NumberOfFrames", b"x ")
    with pytest.raises(InputError, match=r"dose\.dcm is damaged"):
        read_scan(dose)
