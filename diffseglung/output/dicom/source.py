"""The CT images that DICOM results refer to: headers without pixels, in the order of the label map's slices.

Real headers contain values that no writer accepts; these are removed. Value representations: PS3.5 6.2; character
sets: PS3.3 C.12.1.1.2.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.charset import python_encoding
from pydicom.multival import MultiValue
from pydicom.tag import Tag
from pydicom.valuerep import DA, TM

from diffseglung.io.dicom.headers import Fields, open_dataset
from diffseglung.io.scan import Frame
from diffseglung.platform.errors import ConfigError, InputError
from diffseglung.volume import Volume

NEEDED = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
"""Type 1 in every CT image (PS3.3 A.3) and required for references to it."""


@dataclass(frozen=True, eq=False)
class Source:
    """images: one per slice, or the one multi-frame image.  order: slice of the label map -> frame, from 0.

    notes: sentences on missing or unusable attributes of the headers.
    """

    images: list[Any]
    order: NDArray[np.int64]
    notes: tuple[str, ...] = ()

    @property
    def first(self) -> Any:
        """An image with the attributes of patient, study and frame of reference."""
        return self.images[0]

    def in_frames(self, array: NDArray[Any]) -> NDArray[Any]:
        """Slices (Z, Y, X) in the order of the images' frames."""
        if (self.order == np.arange(len(self.order))).all():
            return array
        placed = np.empty_like(array)
        placed[self.order] = array
        return placed


def read_source(frames: Sequence[Frame], label_map: Volume) -> Source:
    """Read the images of a scan.

    Raises InputError if an image is missing or has another size, ConfigError for several multi-frame files.
    """
    if len(frames) != label_map.shape[0]:
        raise InputError(
            f"the label map has {label_map.shape[0]} slices, its DICOM series {len(frames)}",
            remedy="label the series again",
        )
    paths = list(dict.fromkeys(frame.path for frame in frames))
    numbers = [frame.number for frame in frames]
    if len(paths) > 1 and any(number is not None for number in numbers):
        raise ConfigError(
            "DICOM output refers to single-frame images or to one multi-frame image, not to several",
            remedy="omit --dicom",
        )
    images = [_header(path, label_map) for path in paths]
    notes = _ready(images, label_map.spacing_mm[0])
    if len(paths) == len(frames):
        return Source(images, np.arange(len(frames)), notes)
    order = np.array([number or 1 for number in numbers], np.int64) - 1
    if sorted(order) != list(range(int(images[0].NumberOfFrames))):
        raise ConfigError("the label map does not cover every frame of its multi-frame image", remedy="omit --dicom")
    return Source(images, order, notes)


def _ready(images: list[Any], step_mm: float) -> tuple[str, ...]:
    """Remove what results cannot carry from the headers, and return sentences on it."""
    notes = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lost = tidy(images[0])
        thickened = [place(image, images[0], step_mm) for image in images]
    if lost:
        notes.append(
            f"not copied into the DICOM results, because the header's values are not valid DICOM: {', '.join(lost)}"
        )
    if any(thickened):
        notes.append(
            f"the header gives no slice thickness: DICOM results give the slice spacing instead, {step_mm:g} mm"
        )
    return tuple(notes)


def _header(path: Any, label_map: Volume) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = open_dataset(path)
            size = (int(dataset.Rows), int(dataset.Columns))
    except Exception as cause:  # gone, or damaged since it was read
        raise InputError(
            f"{path.name} cannot be read again for DICOM output", remedy="label the series again"
        ) from cause
    if size != label_map.shape[1:]:
        raise InputError(f"{path.name} has changed while its series was labelled", remedy="label the series again")
    _require_references(dataset, path.name)
    return dataset


def _require_references(dataset: Any, name: str) -> None:
    """Raises InputError if results could not refer to the image."""
    for tag in ("SOPClassUID", "SOPInstanceUID"):
        if not dataset.get(tag):
            setattr(dataset, tag, dataset.file_meta.get(f"MediaStorage{tag}"))
    for tag in NEEDED:
        if not dataset.get(tag):
            raise InputError(
                f"{name} has no {tag}, which DICOM results must refer to",
                remedy="export the series again from its source, or omit --dicom",
            )


CARRIED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator"),
)
"""Type 2 (PS3.3 C.7.1.1, C.7.2.1, C.7.4.1): required in results, but may be empty."""
PATIENT_STUDY = ("StudyDescription", "PatientAge", "PatientSize", "PatientWeight")
"""Type 3: copied if the image has them."""
UTF_8 = "ISO_IR 192"
_KEPT_SETS = {name for name in python_encoding if name and "2022" not in name and name != "ISO_IR 6"}
"""Character sets without code extensions and with a defined term; text in others is converted to UTF-8."""
_SEXES = ("M", "F", "O")
_READ: dict[str, Callable[[Any], Any]] = {"DA": DA, "TM": TM, "DS": float, "IS": int}
_SINGLE = ("DA", "TM", "PN")
"""VRs of patient and study attributes that may hold one value only."""
_FRAMES_AND_PIXELS = 0x5200
"""First group after those with header text."""


def tidy(image: Any) -> list[str]:
    """Remove invalid values from a header, and convert its text to a character set that results can have.

    Returns the keywords of removed patient attributes and of those in `CARRIED` and `PATIENT_STUDY`.
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
    """Complete the geometry of an image.  Returns whether its thickness was replaced by the slice spacing."""
    if not image.get("Modality"):
        image.Modality = "CT"
    if "NumberOfFrames" not in image:
        image.ImageOrientationPatient = first.ImageOrientationPatient  # equal but for rounding
        return _thicken(image, step_mm)
    shared = image.get("SharedFunctionalGroupsSequence") or [Dataset()]
    image.SharedFunctionalGroupsSequence = shared
    for name in ("PixelMeasuresSequence", "PlaneOrientationSequence"):  # equal in all frames
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
    """Whether an element is valid: single-valued where required, with numbers, dates and text that can be decoded.

    legible: whether the character set is known; if not, only ASCII text is valid.
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
