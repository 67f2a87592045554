"""ZIP archives of DICOM files, unpacked into a temporary folder that is removed after reading.

Nothing is trusted: names that lead out of the folder, links, devices, encrypted members and more bytes than stated or
allowed are refused. Folders of the archive are replaced by numbers, so no member is written to the path it names.
"""

from __future__ import annotations

import io
import lzma
import shutil
import stat
import struct
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath

from diffseglung.io.scan import reason
from diffseglung.platform.errors import InputError

MAX_BYTES, MAX_MEMBERS = 16 * 2**30, 100_000
"""More than a chest CT with all its reconstructions takes."""
_CHUNK = 1 << 20
_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, ValueError, IndexError, KeyError)
"""What the unpacker raises for damaged archives."""
_UNPACK = "unpack it yourself, and pass the folder"


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """A temporary folder with the archive's files. Raises InputError for an archive that is damaged or unsafe."""
    with tempfile.TemporaryDirectory(prefix="diffseglung-") as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                members = _members(archive, path)
                _require_room(members, path, Path(folder))
                numbers: dict[str, int] = {}
                for member in members:
                    number = numbers.setdefault(str(PureWindowsPath(member.filename).parent), len(numbers))
                    _extract(archive, member, Path(folder) / f"{number:06d}")
        except _DAMAGE as cause:
            raise InputError(
                f"{path} is damaged: it cannot be unpacked ({reason(cause)})", remedy="copy or download it again"
            ) from cause
        except RuntimeError as cause:  # an unknown compression
            raise InputError(f"{path} cannot be unpacked here ({reason(cause)})", remedy=_UNPACK) from cause
        except OSError as cause:
            raise InputError(
                f"{path} cannot be unpacked ({reason(cause)})", remedy="check the disk, or set TMPDIR to another"
            ) from cause
        yield Path(folder)


def holds_dicom(path: Path) -> bool:
    """Whether an archive should be read as a scan: it holds a DICOM file, or its content cannot be listed."""
    from diffseglung.io.dicom.headers import begins

    try:
        with zipfile.ZipFile(path) as archive:
            for member in _members(archive, path):
                with archive.open(member) as file:
                    if begins(file.read(132)):
                        return True
    except (*_DAMAGE, OSError, RuntimeError, InputError):
        return True
    return False


def read_identity(path: Path) -> dict[str, str]:
    """The identity of the patient in the first DICOM file of an archive; empty if there is none or it is damaged."""
    from diffseglung.io.dicom.headers import begins
    from diffseglung.io.identity import TAGS, identity_of

    try:
        with zipfile.ZipFile(path) as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for member in _members(archive, path):
                with archive.open(member) as file:
                    head = file.read(_CHUNK)
                if begins(head):
                    import pydicom

                    return identity_of(
                        pydicom.dcmread(io.BytesIO(head), stop_before_pixels=True, force=True, specific_tags=list(TAGS))
                    )
    except Exception:  # a damaged file can fail anywhere in the reader; reading it later reports the damage
        return {}
    return {}


def other_scans(path: Path, endings: tuple[str, ...]) -> list[str]:
    """Names of the members of a readable archive that have one of these endings."""
    with zipfile.ZipFile(path) as archive:
        names = [PurePosixPath(member.filename).name for member in archive.infolist() if not member.is_dir()]
    return [name for name in names if name.lower().endswith(endings)]


def _members(archive: zipfile.ZipFile, path: Path) -> list[zipfile.ZipInfo]:
    """The files to unpack, without hidden ones. Raises InputError if any member is unsafe."""
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise InputError(f"{path} holds {len(members)} files, more than {MAX_MEMBERS}", remedy=_UNPACK)
    for member in members:
        name = member.filename
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if name.startswith(("/", "\\")) or PureWindowsPath(name).drive or ".." in parts:
            raise InputError(
                f"{path} is unsafe: it holds a file whose name leads out of its folder",
                remedy="create the archive again from the series' folder",
            )
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise InputError(
                f"{path} is unsafe: it holds a link or a device, not only files",
                remedy="create the archive again from the series' folder, without links",
            )
        if member.flag_bits & 0x41:  # encrypted, strongly encrypted (PKWARE APPNOTE 4.4.4)
            raise InputError(f"{path} is encrypted", remedy="unpack it with its password, and pass the folder")
    return [m for m in members if not m.is_dir() and not _is_hidden(PurePosixPath(m.filename))]


def _is_hidden(name: PurePosixPath) -> bool:
    return name.name.startswith(".") or "__MACOSX" in name.parts


def _require_room(members: list[zipfile.ZipInfo], path: Path, folder: Path) -> None:
    size = sum(member.file_size for member in members)
    free = shutil.disk_usage(folder).free
    if size > min(MAX_BYTES, free):
        limit = "more than a chest CT takes" if size > MAX_BYTES else "more than is free in the temporary folder"
        raise InputError(f"{path} unpacks to {size / 2**30:.1f} GiB, {limit}", remedy=_UNPACK)


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    """Write one member under the last part of its name (in a subfolder if that is taken); at most its stated size."""
    name = PureWindowsPath(member.filename).name[-100:] or "file"
    while (folder / name).exists():
        folder /= "again"
    folder.mkdir(parents=True, exist_ok=True)
    left = member.file_size
    with archive.open(member) as source, (folder / name).open("wb") as target:
        while chunk := source.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                raise zipfile.BadZipFile("a file is longer than stated")
            target.write(chunk)
