"""Files that once crashed, hung, starved or confused a reader, and what must become of each: an answer, soon and small.

They are made here, from good files, in the way in which they were found.
"""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from qa.fuzz import judge
from qa.fuzz.judge import Verdict, judged
from qa.fuzz.mutations import Files
from qa.fuzz.targets import TARGETS, seeds_of

BY_NAME = {target.name: target for target in TARGETS}
_SEEDS: dict[str, list[Files]] = {}


def seed(target: str, ending: str) -> Files:
    """The first good input of a target with a file of that ending."""
    if target not in _SEEDS:
        _SEEDS[target] = seeds_of(BY_NAME[target])
    return dict(next(files for files in _SEEDS[target] if any(name.endswith(ending) for name in files)))


def replaced(target: str, ending: str, change: Callable[[bytes], bytes]) -> Files:
    files = seed(target, ending)
    name = next(name for name in sorted(files) if name.endswith(ending))
    return files | {name: change(files[name])}


def header_line(start: bytes, line: bytes) -> Callable[[bytes], bytes]:
    """Another line in place of the one that starts so."""
    return lambda content: b"\n".join(line if each.startswith(start) else each for each in content.split(b"\n"))


def extension(length: int) -> Callable[[bytes], bytes]:
    """A NIfTI file whose header extension claims a length."""
    return lambda content: content[:348] + b"\1\0\0\0" + struct.pack("<ii", length, 6) + content[360:]


def packed(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    return lambda content: gzip.compress(change(gzip.decompress(content)))


def npy(kind: str) -> Callable[[bytes], bytes]:
    """An array of another type."""
    return lambda content: content.replace(b"'descr': '<f4'", f"'descr': '{kind}'".ljust(15).encode()[:15])


def card(change: Callable[[dict[str, object]], object]) -> Callable[[bytes], bytes]:
    def changed(content: bytes) -> bytes:
        entries = json.loads(content)
        return json.dumps(change(entries) or entries).encode()

    return changed


FINDS: dict[str, Callable[[], Files]] = {
    "NRRD and MetaImage: 32767 axes (crash)": lambda: replaced(
        "NRRD and MetaImage", ".mhd", header_line(b"NDims", b"NDims = 32767")
    ),
    "NRRD and MetaImage: 2147483648 axes (crash)": lambda: replaced(
        "NRRD and MetaImage", ".mha", header_line(b"NDims", b"NDims = 2147483648")
    ),
    "NRRD and MetaImage: a field of 5000 letters (crash)": lambda: replaced(
        "NRRD and MetaImage", ".nhdr", header_line(b"type:", b"type: " + b"x" * 5000)
    ),
    "NRRD and MetaImage: a line of 5000 letters (crash)": lambda: replaced(
        "NRRD and MetaImage", ".nrrd", header_line(b"type:", b"x" * 5000)
    ),
    "NRRD and MetaImage: a terabyte of compressed voxels (memory)": lambda: replaced(
        "NRRD and MetaImage", "d.mha", header_line(b"CompressedDataSize", b"CompressedDataSize = 1099511627776")
    ),
    "NRRD and MetaImage: compressed voxels cut short (hang)": lambda: replaced(
        "NRRD and MetaImage", "d.mha", lambda content: content[:-9]
    ),
    "NRRD and MetaImage: compressed voxels that are none (hang)": lambda: replaced(
        "NRRD and MetaImage", "d.mha", lambda content: content[: content.index(b"LOCAL") + 6] + b"x\x9c" + bytes(85)
    ),
    "NRRD and MetaImage: no data file (memory)": lambda: replaced(
        "NRRD and MetaImage", "c.mha", header_line(b"ElementDataFile", b"ElementDataFile")
    ),
    "NRRD and MetaImage: a data file elsewhere": lambda: replaced(
        "NRRD and MetaImage", ".mhd", header_line(b"ElementDataFile", b"ElementDataFile = /dev/zero")
    ),
    "NRRD and MetaImage: a data file above (traversal)": lambda: replaced(
        "NRRD and MetaImage", ".nhdr", header_line(b"data file", b"data file: ../../../etc/passwd")
    ),
    "NRRD and MetaImage: a data file's name of 700 bytes (traceback)": lambda: replaced(
        "NRRD and MetaImage", ".mhd", header_line(b"ElementDataFile", b"ElementDataFile = " + b"\x8c" * 350)
    ),
    "NIfTI: an extension of two gigabytes (memory)": lambda: replaced("NIfTI", ".nii", extension(2**31 - 1)),
    "NIfTI: the same, packed (memory)": lambda: replaced("NIfTI", "a.nii.gz", packed(extension(2**31 - 1))),
    "NIfTI: an extension of no length": lambda: replaced("NIfTI", "a.nii.gz", packed(extension(0))),
    "NIfTI: voxels of a terabyte (memory)": lambda: replaced(
        "NIfTI", "a.nii.gz", packed(lambda c: c[:42] + struct.pack("<3h", 9999, 9999, 9999) + c[48:])
    ),
    "NIfTI: voxels that begin far behind the end (memory)": lambda: replaced(
        "NIfTI", "a.nii.gz", packed(lambda c: c[:108] + struct.pack("<f", 1e30) + c[112:])
    ),
    "DICOM: an element of four gigabytes (memory)": lambda: replaced(
        "DICOM", ".dcm", lambda c: c[:900] + b"\x28\0\x00\x40OB\0\0\xf0\xff\xff\xff" + c[900:]
    ),
    "DICOM: sixteen megabytes of empty elements (hang)": lambda: replaced("DICOM", ".dcm", lambda c: c + bytes(2**24)),
    "training patches: rows of no bytes (crash)": lambda: replaced("training patches", "teacher_patch.npy", npy("<U0")),
    "training patches: rows of objects": lambda: replaced("training patches", "teacher_patch.npy", npy("|O")),
    "training patches: a header without an end (traceback)": lambda: replaced(
        "training patches", "ct.npy", lambda c: c.replace(b"), }", b"     ")
    ),
    "training patches: settings that are a word (traceback)": lambda: replaced(
        "training patches", "patches.json", card(lambda entries: entries | {"patch": "x"})
    ),
    "training patches: settings without a part (traceback)": lambda: replaced(
        "training patches", "patches.json", card(lambda entries: {k: v for k, v in entries.items() if k != "intensity"})
    ),
    "run.json and results: brackets without end (traceback)": lambda: replaced(
        "run.json and results", "statistics.json", lambda c: b"[" * 100_000
    ),
    "run.json and results: a number beyond all reason (traceback)": lambda: replaced(
        "run.json and results", "statistics.json", card(lambda e: e | {"lung": {"volume_ml": 2**70, "mean": 10**400}})
    ),
    "model card: a label that is true": lambda: replaced(
        "model card", ".json", card(lambda e: e | {"labels": {"healthy": True}})
    ),
    "model card: brackets without end": lambda: replaced("model card", ".json", lambda c: b"[" * 100_000),
    "NPZ case: a mask of letters (traceback)": lambda: replaced("NPZ case", ".npz", _lettered),
}


def _lettered(content: bytes) -> bytes:
    import io

    import numpy as np

    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        out = io.BytesIO()
        np.savez(out, ct=arrays["ct"], mask=np.full(arrays["mask"].shape, "x"), meta=arrays["meta"])
    return out.getvalue()


@pytest.mark.parametrize("find", FINDS)
def test_what_was_found_once_is_answered(find: str) -> None:
    files = FINDS[find]()
    target = BY_NAME[find.partition(":")[0]]
    assert files not in _SEEDS[target.name], "the change is lost on the seed"
    (verdict,) = judged(lambda _: files, target.read, range(1))
    assert not verdict.is_find, verdict
    assert verdict.seconds < judge.PATIENCE_S
    assert verdict.mib < judge.BOUND_MIB


def verdict_on(read: Callable[[Path], object]) -> Verdict:
    (verdict,) = judged(lambda _: {"a": b"1"}, read, range(1))
    return verdict


def _crash(folder: Path) -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGSEGV)


def _hang(folder: Path) -> None:
    import time

    time.sleep(60)


def _hoard(folder: Path) -> None:
    bytearray(2 * judge.BOUND_MIB * 2**20)


def _execute(folder: Path) -> None:
    import os

    os.system("true")


def _stray(folder: Path) -> None:
    (folder.parent / "stray").touch()


def _raise(folder: Path) -> None:
    raise KeyError("x")


@pytest.mark.parametrize(
    ("read", "outcome"),
    [(_crash, "crash"), (_hang, "hang"), (_hoard, "memory"), (_execute, "execution"), (_stray, "stray file"),
     (_raise, "traceback"), (lambda folder: None, "well")],
)  # fmt: skip
def test_the_judge_sees_each_kind_of_find(
    read: Callable[[Path], object], outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nothing would ever be found."""
    monkeypatch.setattr(judge, "PATIENCE_S", 1.0)
    assert verdict_on(read).outcome == outcome


def test_an_input_can_be_made_again() -> None:
    import random

    from qa.fuzz.mutations import mutated

    for target in TARGETS:
        good = seeds_of(target)
        one, two = (mutated(good[0], good, random.Random("0 x 1")) for _ in range(2))
        assert one == two
