"""Atomic writing of files and folders: written under a temporary name, flushed to disk, renamed.

A rename within a folder is atomic (POSIX rename; on Windows MoveFileEx with replacement). Contents are on disk before
the rename, so that after a power cut the old or the new file is there. Leftovers of killed processes are removed when
the same name is next written. Temporary names are hidden and random, so that nobody can plant a link under them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:6]
_PART = re.compile(r"\.(?P<host>[0-9a-f]{6})-(?P<process>\d+)-[0-9a-f]{8}\.part\.(?P<name>.+)", re.DOTALL)


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`; renamed to `path` when the block ends, removed if it fails.

    The folder is made if it is missing.  Raises OSError.
    """
    part = _part_of(path)
    try:
        yield part
        _flush(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    _flush(path.parent)


@contextmanager
def workshop(path: Path) -> Iterator[Path]:
    """A temporary empty folder beside `path`; removed at the end of the block, unless renamed before."""
    part = _part_of(path.absolute())
    part.mkdir()
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file atomically; returns its path.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_bytes(Path(folder, "new", "a.bin"), b"123")
    ...     path.read_bytes(), [file.name for file in path.parent.iterdir()]
    (b'123', ['a.bin'])
    """
    with written(path) as part:
        part.write_bytes(content)
    return path


def write_text(path: Path, text: str) -> Path:
    """Write a text file atomically, in UTF-8; characters that UTF-8 lacks are escaped."""
    return write_bytes(path, text.encode("utf-8", "backslashreplace"))


def settle(folder: Path) -> None:
    """Flush every file of a folder to disk, before it is renamed."""
    for path in folder.iterdir():
        if path.is_file():
            _flush(path)


def sweep(folder: Path, name: str | None = None, *, everybody: bool = False) -> None:
    """Remove temporary files of ended processes of this machine from a folder.

    name: only those of this name.  everybody: those of any process, for a caller that knows no other is at work there.
    """
    for rest in folder.glob(".*.part.*"):
        found = _PART.fullmatch(rest.name)
        if found is None or (name is not None and found["name"] != name):
            continue
        if not everybody and (found["host"] != HOST or _runs(int(found["process"]))):
            continue
        if rest.is_dir() and not rest.is_symlink():
            shutil.rmtree(rest, ignore_errors=True)
        else:
            rest.unlink(missing_ok=True)


def _part_of(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent, path.name)
    return path.with_name(f".{HOST}-{os.getpid()}-{secrets.token_hex(4)}.part.{path.name}")


def _flush(path: Path) -> None:
    """Flush a file or folder to disk, if the system can."""
    try:
        number = os.open(path, os.O_RDONLY)
    except (PermissionError, IsADirectoryError):  # folders on Windows
        return
    try:
        if path.is_dir():
            with contextlib.suppress(OSError):  # not every file system flushes folders
                os.fsync(number)
        else:
            os.fsync(number)
    finally:
        os.close(number)


def _runs(process: int) -> bool:
    """Whether a process of this machine runs and is not a zombie."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to someone else
        return True
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:  # no such file system
        return True
