"""Who a DICOM scan is of: read for those who ask for it, and to keep it out of everything else.

The attributes are those of the Basic Application Level Confidentiality Profile (DICOM PS3.15 Annex E, Table E.1-1) that
folders and files are named by in practice.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from pydicom.multival import MultiValue

TAGS = (
    *("PatientName", "PatientID", "OtherPatientIDs", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"),
    *("StudyDate", "StudyInstanceUID", "SeriesInstanceUID"),
)
NAMED_BY = tuple(tag for tag in TAGS if tag != "PatientSex")
"""Attributes whose value in a file's name tells who it is of."""
SHORTEST, CERTAIN = 3, 5
"""Letters and digits from which a value counts as a word of its own, and inside a longer word."""


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
    """Whether a file's name or path holds something of the patient: a part of the name, an id, a date, a UID."""
    words = set(re.findall(r"\w+", text.lower().replace("_", " ")))
    run = _letters(text)
    for tag in NAMED_BY:
        for part in re.split(r"[\\^=\s,]+", identity.get(tag, "")):
            value = _letters(part)
            if len(value) >= SHORTEST and (value in words or (len(value) >= CERTAIN and value in run)):
                return True
    return False


def _letters(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalnum())
