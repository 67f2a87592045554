"""Results as DICOM objects beside their CT: a segmentation, a structured report, a picture.

They belong to the CT's study and patient and refer to its images, so they are made only of a scan that was read from
DICOM. Their UIDs depend on the images, the labels, the settings and the model: the same result is the same object.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffseglung.errors import ConfigError
from diffseglung.extras import require
from diffseglung.io.scan import Frame
from diffseglung.segmentation import Segmentation

NAMES = {"seg": "segmentation.dcm", "sr": "measurements.dcm", "sc": "picture.dcm"}
"""Object -> its file: Segmentation, Structured Report (TID 1500), Secondary Capture of the picture."""


def check_objects(objects: Sequence[str], frames: Sequence[Frame]) -> None:
    """ConfigError where the objects cannot be made of a scan with these frames.  Call it before work starts."""
    if not objects:
        return
    require("dicom", "DICOM output")
    if unknown := sorted(set(objects) - NAMES.keys()):
        raise ConfigError(f"{', '.join(unknown)} is no DICOM object", remedy=f"choose from {', '.join(NAMES)}")
    if not frames:
        raise ConfigError(
            "DICOM output needs a CT that was read from DICOM, on the grid of its own images",
            remedy="pass the folder of the DICOM series, or leave --dicom out",
        )


def write_objects(
    segmentation: Segmentation, frames: Sequence[Frame], folder: Path, objects: Sequence[str], picture: bytes
) -> list[Path]:
    """Write the chosen objects into a folder.

    frames: one for each slice of the label map, in its order.  picture: PNG, read for the Secondary Capture only.
    Raises InputError where the images have changed since they were read.
    """
    from diffseglung.output.dicom.capture import capture
    from diffseglung.output.dicom.identity import identify
    from diffseglung.output.dicom.report import report
    from diffseglung.output.dicom.segments import segments
    from diffseglung.output.dicom.source import read_source

    check_objects(objects, frames)
    source = read_source(frames, segmentation.label_map)
    identity = identify(source, segmentation)
    made: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names and empty segments, which are as the scan has them
        if "seg" in objects:
            made["seg"] = segments(segmentation, source, identity)
        if "sr" in objects:
            made["sr"] = report(segmentation, source, identity, made.get("seg"))
        if "sc" in objects:
            made["sc"] = capture(picture, source, identity)
        for name, item in made.items():
            item.save_as(folder / NAMES[name], enforce_file_format=True)
    return [folder / NAMES[name] for name in made]
