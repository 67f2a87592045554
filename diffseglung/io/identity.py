"""The identity of the patient of a DICOM scan: read on request, and to keep it out of all other output.

The attributes are those of the Basic Application Level Confidentiality Profile (DICOM PS3.15 Annex E, Table E.1-1) that
are used in practice to name folders and files.
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
"""Attributes that identify the patient if their value is part of a file's name."""
SHORTEST, CERTAIN = 3, 5
"""Fewest letters and digits of a value that is found as a whole word, and within a longer word."""
SHORTEST_OTHER = 2
"""Both of these for non-ASCII letters: most Chinese and Korean names have two or three in all."""


def identity_of(dataset: Any) -> dict[str, str]:
    """Attribute -> text, for those of `TAGS` that are in a data set and not empty."""
    found = {}
    for tag in TAGS:
        value = dataset.get(tag)
        values = value if isinstance(value, MultiValue) else () if value is None else (value,)
        if text := "\\".join(str(item) for item in values).strip():
            found[tag] = text
    return found


def hash_of(series_uid: str) -> str:
    """The pseudonym of a SeriesInstanceUID in outputs: 16 hexadecimal digits of its SHA-256.

    >>> hash_of("1.2.840.113619.2.55.3")
    '8ca0727b40fa5e9e'
    """
    return hashlib.sha256(series_uid.encode()).hexdigest()[:16]


def names_patient(text: str, identity: Mapping[str, str]) -> bool:
    """Whether a file's name or path contains part of the patient's name, an id, a date or a UID.

    If the path is not UTF-8 it cannot be checked, and the answer is yes for any known identity.

    >>> names_patient("scans/DOE_J/ct.nii.gz", {"PatientName": "Doe^Jane"})
    True
    >>> names_patient("scans/case-7/ct.nii.gz", {"PatientName": "Doe^Jane"})
    False
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
