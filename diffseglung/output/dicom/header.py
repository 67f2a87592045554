"""The header of a CT image as results may carry it over: real headers hold what no writer accepts.

Value representations: PS3.5 6.2; character sets: PS3.3 C.12.1.1.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from pydicom import Dataset
from pydicom.charset import python_encoding
from pydicom.multival import MultiValue
from pydicom.tag import Tag
from pydicom.valuerep import DA, TM

from diffseglung.io.dicom.slices import Fields

CARRIED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator"),
)
"""Type 2 (PS3.3 C.7.1.1, C.7.2.1, C.7.4.1): they may be empty, and results must have them."""
PATIENT_STUDY = ("StudyDescription", "PatientAge", "PatientSize", "PatientWeight")
"""Type 3: carried over where the image has them."""
UTF_8 = "ISO_IR 192"
_KEPT_SETS = {name for name in python_encoding if name and "2022" not in name and name != "ISO_IR 6"}
"""Character sets that need no code extensions and have a defined term; text of others is written in UTF-8."""
_SEXES = ("M", "F", "O")
_READ: dict[str, Callable[[Any], Any]] = {"DA": DA, "TM": TM, "DS": float, "IS": int}
_SINGLE = ("DA", "TM", "PN")
"""Kinds of values of which an attribute of patient or study holds one."""
_FRAMES_AND_PIXELS = 0x5200
"""First group of what is no text of the header."""


def tidy(image: Any) -> list[str]:
    """Take out of a header what results cannot carry, and keep its text in a character set that they can.

    Returns the keywords of what is lost to the results: of the patient, and those of `CARRIED` and `PATIENT_STUDY`.
    """
    charset = image.get("SpecificCharacterSet") or ""
    names = charset if isinstance(charset, MultiValue) else [charset]
    legible, lost = all(name in python_encoding for name in names), []
    for tag in [tag for tag in image.keys() if tag.group < _FRAMES_AND_PIXELS]:
        try:
            fits = _fits(image[tag], legible)
        except Exception:  # a damaged element can fail anywhere in the reader
            fits = False
        if not fits:
            del image[tag]
            lost.append(tag)
    if not charset:
        image.pop("SpecificCharacterSet", None)
    elif len(names) > 1 or names[0] not in _KEPT_SETS:
        image.SpecificCharacterSet = UTF_8
    for keyword in CARRIED:
        if keyword not in image:
            setattr(image, keyword, None)
    told = {Tag(keyword): keyword for keyword in (*CARRIED, *PATIENT_STUDY)}
    return [told.get(tag, str(tag)) for tag in lost if tag in told or tag.group == Tag("PatientID").group]


def place(image: Any, first: Any, step_mm: float) -> bool:
    """Give an image what places it in the series; whether its thickness had to be taken from the step to the next."""
    if not image.get("Modality"):
        image.Modality = "CT"
    if "NumberOfFrames" not in image:
        image.ImageOrientationPatient = first.ImageOrientationPatient  # equal but for rounding
        return _thicken(image, step_mm)
    shared = image.get("SharedFunctionalGroupsSequence") or [Dataset()]
    image.SharedFunctionalGroupsSequence = shared
    for name in ("PixelMeasuresSequence", "PlaneOrientationSequence"):  # equal in all frames, wherever they stand
        if name not in shared[0]:
            setattr(shared[0], name, getattr(image.PerFrameFunctionalGroupsSequence[0], name))
    return _thicken(shared[0].PixelMeasuresSequence[0], step_mm)


def _thicken(measures: Any, step_mm: float) -> bool:
    stated = Fields(measures).number("SliceThickness")
    if stated is not None and 0 < stated < math.inf:
        return False
    measures.SliceThickness = f"{step_mm:.10g}"
    return True


def _fits(element: Any, legible: bool) -> bool:
    """Whether an element holds what results may: one name, date or time where one belongs, numbers, decoded text.

    legible: whether the character set is known; if not, text beyond ASCII may mean anything.
    """
    if element.VR == "SQ":
        return all(_fits(part, legible) for item in element.value for part in item)
    if element.is_empty:
        return True
    values = element.value if isinstance(element.value, MultiValue) else [element.value]
    if element.keyword == "PatientSex":
        return element.value in _SEXES
    if element.VR in _READ:
        for value in values:
            _READ[element.VR](value)
    text = str(element.value)
    return (len(values) == 1 or element.VR not in _SINGLE) and "\ufffd" not in text and (legible or text.isascii())
