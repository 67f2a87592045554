"""Results onto disk: a label map, its measurements, a picture, and how they were made."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from diffseglung.io.scan import Frame
from diffseglung.output import colour_tables, dicom
from diffseglung.output.attempts import Attempts
from diffseglung.output.label_map import write_label_map, write_probabilities
from diffseglung.output.preview import draw
from diffseglung.output.record import RECORD, describe, write_json
from diffseglung.output.report.page import report
from diffseglung.platform import atomic_files
from diffseglung.platform.errors import ConfigError
from diffseglung.platform.runtime import started
from diffseglung.segmentation import Segmentation

__all__ = ["FILES", "Products", "check_folder", "check_products", "write"]

FILES = (
    *("label_map.nii.gz", colour_tables.SLICER, colour_tables.SNAP),
    *("statistics.json", "preview.png", "report.html", "probabilities.nii.gz"),
    *dicom.NAMES.values(),
    "run.json",
)
"""Every name that `write` may put into a folder."""


@dataclass(frozen=True)
class Products:
    """Which files `write` makes beside label_map.nii.gz and run.json.  dicom: objects of `output.dicom.NAMES`."""

    statistics: bool = True
    preview: bool = True
    report: bool = True
    probabilities: bool = False
    dicom: tuple[str, ...] = ()


def check_folder(folder: Path | str) -> Path:
    """The output folder as a path; ConfigError where none can be made there. Call it before work starts."""
    path = Path(folder)
    for place in (path, *path.absolute().parents):
        if place.exists():
            if not place.is_dir():
                raise ConfigError(f"{place} is a file, not a folder", remedy="choose another output folder")
            if not os.access(place, os.W_OK):
                raise ConfigError(f"{place} cannot be written to", remedy="choose another output folder")
            break
    return path


def check_products(products: Products, frames: Sequence[Frame]) -> None:
    """ConfigError for what cannot be made of a scan with these frames.  Call it before work starts."""
    dicom.check_objects(products.dicom, frames)


def write(
    segmentation: Segmentation,
    folder: Path | str,
    products: Products | None = None,
    *,
    frames: Sequence[Frame] = (),
) -> list[Path]:
    """Write a segmentation's files and return their paths.

    frames: DICOM images that the scan was read from, for DICOM objects.
    All are first made in a hidden neighbour of `folder` and moved at the end, so an error leaves nothing behind,
    and the files of an older run in `folder` stay until the new ones are complete; then they go, all of them.
    run.json goes first and comes last: a folder that holds it holds the files of one run, whatever was killed when.
    Raises OutputError, when the rest is written, for pictures, report, probabilities and DICOM objects that failed;
    run.json names them as `failed`. What DICOM objects do not carry joins the warnings of `segmentation.run`.
    """
    products = products or Products()
    target = check_folder(folder)
    if products.probabilities and segmentation.posterior is None:
        raise ConfigError("this segmentation has no posterior", remedy="segment with probabilities=True")
    with atomic_files.workshop(target) as made:
        attempts = Attempts(made)
        _make(segmentation, attempts, products, frames)
        atomic_files.settle(made)
        target.mkdir(exist_ok=True)
        (target / RECORD).unlink(missing_ok=True)
        for name in FILES:
            if (made / name).exists():
                (made / name).replace(target / name)
            else:
                (target / name).unlink(missing_ok=True)
    files = [target / name for name in FILES if (target / name).exists()]
    attempts.require(files)
    return files


def _make(segmentation: Segmentation, attempts: Attempts, products: Products, frames: Sequence[Frame]) -> None:
    begin, workshop = time.perf_counter(), attempts.folder
    label_map_path = workshop / "label_map.nii.gz"
    label_map = started(lambda: write_label_map(segmentation, label_map_path))
    (workshop / colour_tables.SLICER).write_text(colour_tables.slicer_table(), encoding="utf-8")
    (workshop / colour_tables.SNAP).write_text(colour_tables.snap_table(), encoding="utf-8")
    picture = cache(lambda: draw(segmentation))
    try:
        if products.statistics:
            write_json(workshop / "statistics.json", segmentation.statistics)
        if products.preview:
            with attempts.at("preview.png"):
                (workshop / "preview.png").write_bytes(picture())
        if products.dicom:
            notes = dicom.write_objects(segmentation, frames, products.dicom, picture, attempts)
            told = [*segmentation.run.get("warnings", []), *notes]
            segmentation.run["warnings"] = list(dict.fromkeys(told))
        if products.report:
            with attempts.at("report.html"):
                (workshop / "report.html").write_text(report(segmentation), encoding="utf-8")
    finally:
        label_map()
    if products.probabilities:
        with attempts.at("probabilities.nii.gz"):
            write_probabilities(segmentation, workshop / "probabilities.nii.gz", label_map_path=label_map_path)
    names = [path.name for path in workshop.iterdir()]
    record = describe(segmentation, [*names, RECORD])
    if attempts.failed:
        record["failed"] = sorted(attempts.failed)
    record["seconds"] = {**record.get("seconds", {}), "writing": round(time.perf_counter() - begin, 3)}
    write_json(workshop / RECORD, record)
