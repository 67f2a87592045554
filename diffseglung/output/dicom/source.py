"""The CT images that DICOM results refer to: headers without pixels, in the order of the label map's slices."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffseglung.io.dicom.headers import open_dataset
from diffseglung.io.scan import Frame
from diffseglung.output.dicom import header
from diffseglung.platform.errors import ConfigError, InputError
from diffseglung.volume import Volume

Dataset = Any  # pydicom's datasets carry no types for their attributes

NEEDED = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
"""Type 1 in every CT image (PS3.3 A.3): without them nothing can refer to it."""


@dataclass(frozen=True, eq=False)
class Source:
    """images: one per slice, or the one multi-frame image.  order: slice of the label map -> frame, from 0.

    notes: sentences on what the headers do not tell as results need it.
    """

    images: list[Dataset]
    order: NDArray[np.int64]
    notes: tuple[str, ...] = ()

    @property
    def first(self) -> Dataset:
        """An image that speaks for patient, study and frame of reference."""
        return self.images[0]

    def in_frames(self, array: NDArray[Any]) -> NDArray[Any]:
        """Slices (Z, Y, X) in the order of the images' frames."""
        if (self.order == np.arange(len(self.order))).all():
            return array
        placed = np.empty_like(array)
        placed[self.order] = array
        return placed


def read_source(frames: Sequence[Frame], label_map: Volume) -> Source:
    """Raises InputError where an image is gone or has another size, ConfigError for several multi-frame files."""
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
            remedy="leave --dicom out",
        )
    images = [_header(path, label_map) for path in paths]
    notes = _ready(images, label_map.spacing_mm[0])
    if len(paths) == len(frames):
        return Source(images, np.arange(len(frames)), notes)
    order = np.array([number or 1 for number in numbers], np.int64) - 1
    if sorted(order) != list(range(int(images[0].NumberOfFrames))):
        raise ConfigError(
            "the label map does not cover every frame of its multi-frame image", remedy="leave --dicom out"
        )
    return Source(images, order, notes)


def _ready(images: list[Dataset], step_mm: float) -> tuple[str, ...]:
    """Make the headers fit to be carried over, and tell what of them is not."""
    notes = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lost = header.tidy(images[0])
        thickened = [header.place(image, images[0], step_mm) for image in images]
    if lost:
        notes.append(
            f"not carried into the DICOM results, as DICOM does not allow what the header holds: {', '.join(lost)}"
        )
    if any(thickened):
        notes.append(
            f"the header gives no slice thickness: DICOM results state the distance of the slices, {step_mm:g} mm"
        )
    return tuple(notes)


def _header(path: Any, label_map: Volume) -> Dataset:
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


def _require_references(dataset: Dataset, name: str) -> None:
    """InputError where results could belong nowhere."""
    for tag in ("SOPClassUID", "SOPInstanceUID"):
        if not dataset.get(tag):
            setattr(dataset, tag, dataset.file_meta.get(f"MediaStorage{tag}"))
    for tag in NEEDED:
        if not dataset.get(tag):
            raise InputError(
                f"{name} has no {tag}: DICOM results would belong to nothing",
                remedy="export the series again from its source, or leave --dicom out",
            )
