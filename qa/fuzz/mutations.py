"""Mutations of good files: of bytes, and of structure (headers, archives, compressed streams, JSON).

All randomness comes from the generator passed in, so that an input can be reproduced from its number.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

Files = dict[str, bytes]
"""Name below a folder -> content."""
NUMBERS = (
    0,
    1,
    -1,
    2,
    3,
    7,
    127,
    128,
    255,
    256,
    32767,
    32768,
    65535,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**40,
    2**63 - 1,
)
REALS = (0.0, -0.0, 1e-30, -1.0, 1e30, float("inf"), float("-inf"), float("nan"))
TEXTS = ("", "\0", "é\u202e", "../../../x", "x" * 5000, "1e999", "{}", "None", "-1", "1 2 3", "0x10", "\x1b[31m")
WEIRD: tuple[Any, ...] = (None, True, [], {}, [[[]]], [None], {"a": {}}, *TEXTS, *REALS, *NUMBERS[:8], 2**70, -(2**70))
NIFTI_FIELDS = (
    (0, "i"), *((40 + 2 * i, "h") for i in range(8)), (70, "h"), (72, "h"), *((76 + 4 * i, "f") for i in range(8)),
    (108, "f"), (112, "f"), (116, "f"), (252, "h"), (254, "h"), *((256 + 4 * i, "f") for i in range(18)), (344, "i"),
)  # fmt: skip
"""Offset and type of the header fields that readers of NIfTI-1 use."""


def mutated(files: Files, others: list[Files], draw: random.Random) -> Files:
    """A copy with one to three files changed, missing, or duplicated."""
    changed = dict(files)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        name = draw.choice(sorted(changed)) if changed else ""
        if not name:
            break
        kind = draw.random()
        if kind < 0.03 and len(changed) > 1:
            del changed[name]
        elif kind < 0.05:
            changed["copy-" + name.replace("/", "-")] = changed[name]
        else:
            other = draw.choice(others)
            changed[name] = change(name, changed[name], other.get(name, draw.choice(list(other.values()))), draw)
    return changed


def change(name: str, content: bytes, other: bytes, draw: random.Random) -> bytes:
    """Apply one mutation for the kind of file, or a general one."""
    fitting = [act for test, act in KINDS if test(name, content)]
    act = draw.choice(fitting) if fitting and draw.random() < 0.6 else None
    if act is not None:
        try:
            return act(name, content, other, draw)
        except Exception:  # an earlier mutation broke its structure: change bytes
            pass
    return draw.choice(BYTES)(content, other, draw)


def flip(content: bytes, other: bytes, draw: random.Random) -> bytes:
    """Flip a few bits."""
    data = bytearray(content)
    for _ in range(draw.randint(1, 8)):
        if data:
            data[_place(len(data), draw)] ^= 1 << draw.randint(0, 7)
    return bytes(data)


def cut(content: bytes, other: bytes, draw: random.Random) -> bytes:
    """Truncate."""
    return content[: draw.randint(0, len(content))]


def insert(content: bytes, other: bytes, draw: random.Random) -> bytes:
    """Insert random or repeated bytes."""
    at, count = _place(len(content) + 1, draw), draw.choice((1, 2, 4, 64, 1024))
    return content[:at] + draw.choice((draw.randbytes(count), content[at : at + count] * 3)) + content[at:]


def remove(content: bytes, other: bytes, draw: random.Random) -> bytes:
    """Cut out a part."""
    at = _place(len(content) + 1, draw)
    return content[:at] + content[at + draw.choice((1, 2, 4, 64, 1024)) :]


def splice(content: bytes, other: bytes, draw: random.Random) -> bytes:
    """Join the beginning of one file and the end of another."""
    return content[: _place(len(content) + 1, draw)] + other[_place(len(other) + 1, draw) :]


def number(content: bytes, other: bytes, draw: random.Random) -> bytes:
    """Write an extreme number somewhere."""
    kind, order = draw.choice("bhiqfd"), draw.choice("<>")
    size = struct.calcsize(kind)
    value: float = draw.choice(REALS) if kind in "fd" else draw.choice(NUMBERS)
    raw = struct.pack(order + kind, value) if kind in "fd" else (int(value) % 2 ** (8 * size)).to_bytes(size, "little")
    at = _place(max(len(content) - size, 1), draw)
    return content[:at] + (raw if order == "<" else raw[::-1]) + content[at + size :]


BYTES: tuple[Callable[[bytes, bytes, random.Random], bytes], ...] = (
    flip,
    flip,
    cut,
    insert,
    remove,
    splice,
    number,
    number,
)


def nifti_field(name: str, content: bytes, other: bytes, draw: random.Random) -> bytes:
    """Set a header field to an extreme value."""
    offset, kind = draw.choice(NIFTI_FIELDS)
    value: Any = draw.choice(REALS) if kind == "f" else draw.choice(NUMBERS)
    if kind != "f":
        bits = 8 * struct.calcsize(kind)
        value = (value + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)
    return content[:offset] + struct.pack("<" + kind, value) + content[offset + struct.calcsize(kind) :]


def inside_gzip(name: str, content: bytes, other: bytes, draw: random.Random) -> bytes:
    """Mutate the decompressed data; sometimes append a gigabyte of zeros."""
    if len(content) > len(zeros()) // 2:
        return flip(content, other, draw)  # it holds a gigabyte already
    inner = change(name.removesuffix(".gz"), gzip.decompress(content), other, draw)
    if draw.random() < 0.004:
        return gzip.compress(inner, 1) + zeros()
    return gzip.compress(inner, 1)


def inside_zip(name: str, content: bytes, other: bytes, draw: random.Random) -> bytes:
    """Mutate a member: its content, name or flags, or remove or duplicate it."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
    place = draw.randrange(len(members))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for i, (info, data) in enumerate(members):
            if i == place:
                kind = draw.random()
                if kind < 0.05:
                    continue
                if kind < 0.1:
                    info.filename = draw.choice(("../up.dcm", "/abs.dcm", "x" * 300, "a\\..\\b", "ct.npy", "\x1b[2J"))
                elif kind < 0.13:
                    info.external_attr = draw.choice((0o120777, 0o020666, 0o010666)) << 16
                elif kind < 0.16:
                    info.compress_type, data = zipfile.ZIP_DEFLATED, data + bytes(2**24)
                else:
                    data = change(info.filename, data, other, draw)
            archive.writestr(info, data)
    return out.getvalue()


def npy_header(name: str, content: bytes, other: bytes, draw: random.Random) -> bytes:
    """Change type, shape or order in the header of an array."""
    length = struct.unpack("<H", content[8:10])[0]
    text, rest = content[10 : 10 + length].decode("latin1"), content[10 + length :]
    shape = draw.choice(("()", "(0,)", "(-1,)", "(1,) * 99", f"({2**40},)", "(3, 1000000, 1000000)", "(2, 2)", "'a'"))
    kind = draw.choice(("|O", "<U99999999", "<f8", ">i2", "|S0", "<c16", "|V7", "<M8[s]", "zz", "<f2"))
    text = draw.choice((
        re.sub(r"'shape': \([^)]*\)", f"'shape': {shape}", text),
        re.sub(r"'descr': '[^']*'", f"'descr': '{kind}'", text),
        text.replace("False", "True"),
        "__import__('os').system('touch sprung')",
    ))  # fmt: skip
    raw = text.encode("latin1")
    return content[:8] + struct.pack("<H", len(raw)) + raw + rest


def text_header(name: str, content: bytes, other: bytes, draw: random.Random) -> bytes:
    """Change a value in a header of lines `key: value` or `key = value` (NRRD, MetaImage)."""
    end = content.find(b"\n\n") if content.startswith(b"NRRD") else content.find(b"ElementDataFile")
    end = len(content) if end < 0 else content.find(b"\n", end) if not content.startswith(b"NRRD") else end
    lines = content[:end].split(b"\n")
    at = draw.randrange(len(lines))
    key, sep, value = re.match(rb"([^:=]*)([:=]+ ?)?(.*)", lines[at], re.DOTALL).groups()  # type: ignore[union-attr]
    words = value.split() or [b""]
    words[draw.randrange(len(words))] = str(draw.choice((*NUMBERS, *REALS, *TEXTS[:8]))).encode("utf-8", "replace")
    lines[at] = draw.choice((key + (sep or b"") + b" ".join(words), key, b"", lines[at] + b"\n" + lines[at]))
    return b"\n".join(lines) + content[end:]


def json_value(name: str, content: bytes, other: bytes, draw: random.Random) -> bytes:
    """Change a value, remove, add or duplicate a key, or nest very deeply."""
    document = json.loads(content)
    places = list(_places(document, ()))
    trail = draw.choice(places)
    kind = draw.random()
    if kind < 0.03:
        return b"[" * 100_000
    if not trail:
        return json.dumps(draw.choice(WEIRD)).encode()
    inner = document
    for key in trail[:-1]:
        inner = inner[key]
    if kind < 0.15:
        del inner[trail[-1]]
    elif kind < 0.2 and isinstance(inner, dict):
        inner[draw.choice(TEXTS)] = draw.choice(WEIRD)
    else:
        inner[trail[-1]] = draw.choice(WEIRD)
    return json.dumps(document).encode()


def csv_value(name: str, content: bytes, other: bytes, draw: random.Random) -> bytes:
    """Change a cell."""
    lines = content.split(b"\n")
    at = draw.randrange(len(lines))
    cells = lines[at].split(b",")
    cells[draw.randrange(len(cells))] = str(draw.choice(WEIRD)).encode("utf-8", "replace")
    lines[at] = b",".join(cells)
    return b"\n".join(lines)


ELEMENT = re.compile(
    rb"[\x02\x08\x10\x18\x20\x28\xe0\x00]\0..(CS|DS|IS|US|LO|SH|UI|PN|OW|SQ|FD|DA|UL|OB)(..)", re.DOTALL
)


def dicom_element(name: str, content: bytes, other: bytes, draw: random.Random) -> bytes:
    """Change value, length or type of an element, in its bytes, so that no library validates it."""
    found = list(
        re.finditer(
            rb"[\x02\x08\x10\x18\x20\x28\xe0\x00]\0..(CS|DS|IS|US|LO|SH|UI|PN|OW|SQ|FD|DA|UL|OB)(..)",
            content,
            re.DOTALL,
        )
    )
    hit = draw.choice(found)
    kind = draw.random()
    if kind < 0.3:
        length = struct.pack("<H", draw.choice((0, 1, 2, 255, 65535)))
        return content[: hit.start(2)] + length + content[hit.end(2) :]
    if kind < 0.45:
        return content[: hit.start(1)] + draw.choice((b"DS", b"SQ", b"UN", b"OW", b"zz", b"US")) + content[hit.end(1) :]
    size = struct.unpack("<H", hit[2])[0]
    if hit[1] == b"US":
        raw = struct.pack("<H", draw.choice(NUMBERS) % 65536)
    else:
        text = str(draw.choice((*TEXTS[:8], *REALS, *NUMBERS))).encode("utf-8", "replace")
        raw = (text * (1 + size // max(len(text), 1)))[:size]
    return content[: hit.end()] + raw + content[hit.end() + len(raw) :]


KINDS: tuple[tuple[Callable[[str, bytes], bool], Callable[[str, bytes, bytes, random.Random], bytes]], ...] = (
    (lambda name, content: name.endswith(".nii") and len(content) > 352, nifti_field),
    (lambda name, content: content[:2] == b"\x1f\x8b", inside_gzip),
    (lambda name, content: content[:2] == b"PK", inside_zip),
    (lambda name, content: content[:6] == b"\x93NUMPY", npy_header),
    (lambda name, content: content[:4] == b"NRRD" or b"NDims" in content[:64], text_header),
    (lambda name, content: name.endswith((".json", "card")) and content[:1] in b"{[", json_value),
    (lambda name, content: name.endswith(".csv"), csv_value),
    (lambda name, content: content[128:132] == b"DICM", dicom_element),
    (lambda name, content: name.endswith(".safetensors"), lambda n, c, o, d: _safetensors(c, o, d)),
)


def _safetensors(content: bytes, other: bytes, draw: random.Random) -> bytes:
    """Mutate the JSON header, or the card in it, and correct the stated length."""
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    if draw.random() < 0.5:
        card = json_value("card", header["__metadata__"]["card"].encode(), other, draw)
        header["__metadata__"]["card"] = card.decode("utf-8", "replace")
        raw = json.dumps(header).encode()
    else:
        raw = json_value("card", content[8 : 8 + size], other, draw)
    return struct.pack("<Q", len(raw)) + raw + content[8 + size :]


def _places(value: Any, trail: tuple[Any, ...]) -> Any:
    yield trail
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from _places(item, (*trail, key))


def _place(length: int, draw: random.Random) -> int:
    """A random position, more often near the beginning, where headers are."""
    return draw.randrange(max(1, min(length, 512) if draw.random() < 0.5 else length))


@cache
def zeros() -> bytes:
    """A gigabyte of zeros, compressed: a megabyte."""
    press = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([*(press.compress(bytes(2**20)) for _ in range(1024)), press.flush()])
