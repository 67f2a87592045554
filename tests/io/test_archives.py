"""A ZIP archive is read like its folder, and nothing in it can reach out of the temporary folder."""

from __future__ import annotations

import stat
import struct
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from diffseglung.io import archives, read_scan, scan_name
from diffseglung.io.nifti import write_nifti
from diffseglung.io.studies import find_studies
from diffseglung.platform.errors import InputError
from tests.io.dicom_defects import LEFT_OUT, good_volume, write_good


def _zip(path: Path, folder: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, prefix + file.relative_to(folder).as_posix())
    return path


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, empty at first."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_archive_is_read_like_its_folder_and_leaves_nothing(tmp_path: Path, temporary: Path) -> None:
    write_good(tmp_path / "s" / "inner" / "series")
    (tmp_path / "s" / "__MACOSX").mkdir()
    (tmp_path / "s" / "__MACOSX" / "._1.dcm").write_bytes(bytes(300))
    scan = read_scan(_zip(tmp_path / "patient.ZIP", tmp_path / "s"))
    assert np.array_equal(scan.volume.array, good_volume().array)
    assert np.allclose(scan.volume.affine, good_volume().affine)
    assert scan.frames == ()
    assert list(temporary.iterdir()) == []
    assert scan_name(tmp_path / "patient.ZIP") == "patient.ZIP"


def test_series_of_an_archive_can_be_named(tmp_path: Path) -> None:
    write_good(tmp_path / "s")
    path = _zip(tmp_path / "a.zip", tmp_path / "s")
    assert read_scan(path, series_uid="3").volume.shape == (12, 16, 16)
    with pytest.raises(InputError, match=r"a\.zip has no series 4"):
        read_scan(path, series_uid="4")


def test_a_defect_in_an_archive_names_the_archive(tmp_path: Path, temporary: Path) -> None:
    write_good(tmp_path / "s")[5].unlink()
    with pytest.raises(InputError, match=r"a\.zip lacks 1 of its slices"):
        read_scan(_zip(tmp_path / "a.zip", tmp_path / "s"))
    assert list(temporary.iterdir()) == []


def test_a_damaged_file_in_an_archive_is_a_slice_by_its_name(tmp_path: Path) -> None:
    write_good(tmp_path / "s")
    (tmp_path / "s" / "dose.dcm").write_bytes(b"")
    scan = read_scan(_zip(tmp_path / "a.zip", tmp_path / "s"))
    assert np.array_equal(scan.volume.array, good_volume().array)
    assert LEFT_OUT in scan.notes
    (tmp_path / "s" / "012-12.dcm").write_bytes(b"")
    with pytest.raises(InputError, match="is empty"):
        read_scan(_zip(tmp_path / "b.zip", tmp_path / "s"))


def test_files_without_preamble_in_an_archive(tmp_path: Path) -> None:
    for path in write_good(tmp_path / "s" / "Secret"):
        path.write_bytes(path.read_bytes()[132:])
    (tmp_path / "cohort").mkdir()
    path = _zip(tmp_path / "cohort" / "Secret-Id.zip", tmp_path / "s")
    (study,) = find_studies(tmp_path / "cohort")
    assert np.array_equal(study.read().volume.array, good_volume().array)
    assert "Secret" not in study.name
    assert np.array_equal(read_scan(path).volume.array, good_volume().array)


def test_cohorts_find_archives_of_scans_only(tmp_path: Path) -> None:
    write_good(tmp_path / "s")
    (tmp_path / "cohort").mkdir()
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "notes.txt").write_text("nothing " * 40)
    _zip(tmp_path / "cohort" / "p1.zip", tmp_path / "s")
    _zip(tmp_path / "cohort" / "code.zip", tmp_path / "t")
    (study,) = find_studies(tmp_path / "cohort")
    assert study.name == "p1.zip"
    assert study.read().volume.shape == (12, 16, 16)


def test_archive_of_a_nifti_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    write_nifti(tmp_path / "t" / "ct.nii.gz", good_volume())
    with pytest.raises(InputError, match=r"holds no DICOM files but ct\.nii\.gz") as caught:
        read_scan(_zip(tmp_path / "a.zip", tmp_path / "t"))
    assert "unpack" in caught.value.remedy


def test_archive_without_scans_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "a.txt").write_text("text")
    with pytest.raises(InputError, match=r"a\.zip holds no DICOM files"):
        read_scan(_zip(tmp_path / "a.zip", tmp_path / "t"))


def _named(name: str, mode: int = 0, content: bytes = b"x") -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            info = zipfile.ZipInfo("x")
            info.filename, info.external_attr = name, mode << 16
            archive.writestr(info, content)

    return write


def _flagged(path: Path) -> None:
    """The first bit of the general flags, in both headers: encrypted."""
    _named("a.dcm")(path)
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(mark) + offset] |= 1
    path.write_bytes(content)


def _method(path: Path) -> None:
    """A compression that is not known here."""
    _named("a.dcm")(path)
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        content[content.index(mark) + offset] = 97
    path.write_bytes(content)


def _lying(path: Path) -> None:
    """Stated much shorter than it unpacks to."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.dcm", bytes(100_000))
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        where = content.index(mark) + offset
        content[where : where + 4] = struct.pack("<I", 10)
    path.write_bytes(content)


def _giant(path: Path) -> None:
    """Stated larger than allowed."""
    _named("a.dcm")(path)
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        where = content.index(mark) + offset
        content[where : where + 4] = struct.pack("<I", 2**32 - 2)
    path.write_bytes(content)


def _cut(path: Path) -> None:
    _named("a.dcm", content=bytes(5000))(path)
    path.write_bytes(path.read_bytes()[:-40])


def _damaged(path: Path) -> None:
    _named("a.dcm", content=bytes(5000))(path)
    content = bytearray(path.read_bytes())
    content[200:210] = b"0123456789"
    path.write_bytes(content)


BAD = {
    "absolute": (_named("/tmp/x.dcm"), "leads out"),
    "parent": (_named("a/../../x.dcm"), "leads out"),
    "backslashes": (_named("a\\..\\..\\x.dcm"), "leads out"),
    "drive": (_named("C:\\x.dcm"), "leads out"),
    "share": (_named("\\\\host\\x.dcm"), "leads out"),
    "link": (_named("x.dcm", stat.S_IFLNK | 0o777, b"/etc/passwd"), "a link or a device"),
    "pipe": (_named("x.dcm", stat.S_IFIFO | 0o666), "a link or a device"),
    "encrypted": (_flagged, "is encrypted"),
    "method": (_method, "cannot be unpacked here"),
    "longer than stated": (_lying, "damaged"),
    "giant": (_giant, r"unpacks to 4\.0 GiB"),
    "cut": (_cut, "damaged"),
    "damaged": (_damaged, "damaged"),
    "text": (lambda path: path.write_text("no archive"), "damaged"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_archive_that_is_not_safe_is_refused(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(archives, "MAX_BYTES", 2**30)
    write, pattern = BAD[name]
    before = set(tmp_path.rglob("*"))
    write(tmp_path / "a.zip")
    with pytest.raises(InputError, match=pattern):
        read_scan(tmp_path / "a.zip")
    assert set(tmp_path.rglob("*")) == before | {tmp_path / "a.zip"}


def test_members_of_one_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for k in range(3):
            archive.writestr(f"{k}/same", bytes([k]))
    with archives.unpacked(tmp_path / "a.zip") as folder:
        found = sorted(path.read_bytes() for path in folder.rglob("same"))
    assert found == [b"\0", b"\1", b"\2"]
    assert not folder.exists()
