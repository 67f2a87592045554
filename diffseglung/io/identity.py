"""Who a DICOM scan is of: read for those who ask for it, and to keep it out of everything else.

The attributes are those of the Basic Application Level Confidentiality Profile (DICOM PS3.15 Annex E, Table E.1-1) that
folders and files are named by in practice.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from pydicom.multival import MultiValue

from diffseglung.platform.serialization import readable

TAGS = (
    *("PatientName", "PatientID", "OtherPatientIDs", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"),
    *("StudyDate", "StudyInstanceUID", "SeriesInstanceUID"),
)
NAMED_BY = tuple(tag for tag in TAGS if tag != "PatientSex")
"""Attributes whose value in a file's name tells who it is of."""
SHORTEST, CERTAIN = 3, 5
"""Letters and digits from which a value counts as a word of its own, and inside a longer word."""
SHORTEST_OTHER = 2
"""The same, both, for letters that are not ASCII: most Chinese and Korean names have two or three in all."""


def identity_of(dataset: Any) -> dict[str, str]:
    """Attribute -> its text, of those in `TAGS` that a data set holds and that are not empty."""
    found = {}
    for tag in TAGS:
        value = dataset.get(tag)
        values = value if isinstance(value, MultiValue) else () if value is None else (value,)
        if text := "\\".join(str(item) for item in values).strip():
            found[tag] = text
    return found


def hash_of(series_uid: str) -> str:
    """What stands for a SeriesInstanceUID in outputs: 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(series_uid.encode()).hexdigest()[:16]


def names_patient(text: str, identity: Mapping[str, str]) -> bool:
    """Whether a file's name or path holds something of the patient: a part of the name, an id, a date, a UID.

    A name whose bytes are no UTF-8 cannot be read, and counts as one that does.
    """
    if readable(text) != text:
        return bool(identity)
    text = unicodedata.normalize("NFKC", text)
    words = set(re.findall(r"\w+", text.lower().replace("_", " ")))
    run = _letters(text)
    for tag in NAMED_BY:
        stated = identity.get(tag, "")
        for part in (*re.split(r"[\\^=\s,]+", stated), *re.split(r"[\\=]+", stated)):
            value = _letters(part)
            shortest, certain = (SHORTEST, CERTAIN) if value.isascii() else (SHORTEST_OTHER, SHORTEST_OTHER)
            if len(value) >= shortest and (value in words or (len(value) >= certain and value in run)):
                return True
    return False


def _letters(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKC", text).lower() if c.isalnum())
