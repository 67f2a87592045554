"""Results as DICOM objects of the CT's study: a segmentation, a structured report, a picture.

They refer to the CT's images, so they require a scan that was read from DICOM. Their UIDs depend on the images, labels,
settings and model: equal results are the same object.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from diffseglung.io.scan import Frame
from diffseglung.output.products import Attempts
from diffseglung.platform.errors import ConfigError
from diffseglung.platform.extras import require
from diffseglung.segmentation import Segmentation

NAMES = {"seg": "segmentation.dcm", "sr": "measurements.dcm", "sc": "picture.dcm"}
"""Object -> file name: Segmentation, Structured Report (TID 1500), Secondary Capture of the preview."""


def check_objects(objects: Sequence[str], frames: Sequence[Frame]) -> None:
    """Raises ConfigError if the objects cannot be made of a scan with these frames. Call it before work starts."""
    if not objects:
        return
    require("dicom", "DICOM output")
    if unknown := sorted(set(objects) - NAMES.keys()):
        raise ConfigError(f"unknown DICOM object: {', '.join(unknown)}", remedy=f"choose from {', '.join(NAMES)}")
    if not frames:
        raise ConfigError(
            "DICOM output needs a CT that was read from DICOM, on the grid of its own images",
            remedy="pass the folder of the DICOM series, or omit --dicom",
        )


def write_objects(
    segmentation: Segmentation,
    frames: Sequence[Frame],
    objects: Sequence[str],
    picture: Callable[[], bytes],
    attempts: Attempts,
) -> tuple[str, ...]:
    """Write the chosen objects into the folder of `attempts`; each may fail without affecting the others.

    frames: one for each slice of the label map, in order.  picture: returns a PNG for the Secondary Capture.
    Returns sentences on attributes of the images that the objects do not carry.
    """
    with attempts.at(*(NAMES[name] for name in objects)), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about names and empty segments
        check_objects(objects, frames)
        from diffseglung.output.dicom.identity import identify
        from diffseglung.output.dicom.images import capture, segments
        from diffseglung.output.dicom.report import report
        from diffseglung.output.dicom.source import read_source

        source = read_source(frames, segmentation.label_map)
        identity = identify(source, segmentation)
        made: dict[str, Any] = {}
        makers: dict[str, Callable[[], Any]] = {
            "seg": lambda: segments(segmentation, source, identity),
            "sr": lambda: report(segmentation, source, identity, made.get("seg")),
            "sc": lambda: capture(picture(), source, identity),
        }
        for name in (name for name in makers if name in objects):
            with attempts.at(NAMES[name]):
                item = makers[name]()
                item.save_as(attempts.folder / NAMES[name], enforce_file_format=True)
                made[name] = item
        return source.notes
    return ()
