"""Files and folders that are complete under their name, or not there: written beside it, flushed to disk, renamed.

A rename within a folder is atomic (POSIX rename; on Windows MoveFileEx with replacement); what a file holds is on disk
before it, so that a power cut leaves the old file or the new one. What a killed process left beside a name goes when
that name is written next; names are hidden, and drawn at random, so that nobody can put a link in their way.
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
    """A name beside `path` to write a file under; it becomes `path` when the block ends, and goes when it fails.

    The folder is made where there is none.  Raises OSError as writing does.
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
    """An empty folder beside `path`, for files that will be moved into it; it goes when the block ends, however."""
    part = _part_of(path.absolute())
    part.mkdir()
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_bytes(path: Path, content: bytes) -> Path:
    """A file with this content, whole or not at all."""
    with written(path) as part:
        part.write_bytes(content)
    return path


def write_text(path: Path, text: str) -> Path:
    """A file with this text in UTF-8, whole or not at all; what UTF-8 has no code for is written out."""
    return write_bytes(path, text.encode("utf-8", "backslashreplace"))


def settle(folder: Path) -> None:
    """Flush every file of a folder, so that renaming them is all that is left to do."""
    for path in folder.iterdir():
        if path.is_file():
            _flush(path)


def sweep(folder: Path, name: str | None = None, *, everybody: bool = False) -> None:
    """Remove what processes of this machine that are gone left half-written in a folder (of one name, or of all).

    everybody: what any process left, for a caller who knows that nobody else is at work there.
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
    """Onto the disk, where the system can do that for files, or folders, of this kind."""
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
    """Whether a process of this machine is there and not dead already, waiting for its parent to take notice."""
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
