"""The files of a result: the label map, its measurements, pictures, and a record of how they were made."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from diffseglung.io.scan import Frame
from diffseglung.output import dicom
from diffseglung.output.label_map import SLICER, SNAP, slicer_table, snap_table, write_label_map, write_probabilities
from diffseglung.output.preview import draw
from diffseglung.output.products import Attempts, Products
from diffseglung.output.record import RECORD, describe, write_json
from diffseglung.output.report.page import report
from diffseglung.platform import atomic_files
from diffseglung.platform.errors import ConfigError
from diffseglung.platform.runtime import started
from diffseglung.segmentation import Segmentation

__all__ = ["FILES", "Products", "check_folder", "check_products", "write"]

FILES = (
    *("label_map.nii.gz", SLICER, SNAP, "statistics.json", "preview.png", "report.html", "probabilities.nii.gz"),
    *dicom.NAMES.values(),
    RECORD,
)
"""Every file name that `write` uses."""


def check_folder(folder: Path | str) -> Path:
    """The output folder as a path.  Raises ConfigError if it cannot be created. Call it before work starts."""
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
    """Raises ConfigError for files that cannot be made of a scan with these frames. Call it before work starts."""
    dicom.check_objects(products.dicom, frames)


def write(
    segmentation: Segmentation,
    folder: Path | str,
    products: Products | None = None,
    *,
    frames: Sequence[Frame] = (),
) -> list[Path]:
    """Write the files of a segmentation and return their paths.

    frames: DICOM images that the scan was read from, for DICOM objects.
    All files are made in a hidden sibling of `folder` and moved at the end, so an error leaves nothing behind, and the
    files of an earlier run stay until the new ones are complete; then all of them are replaced or removed.
    run.json is removed first and moved last: a folder with run.json holds the files of one run, even after a crash.
    Raises OutputError, once the rest is written, if pictures, report, probabilities or DICOM objects failed; run.json
    lists them as `failed`. Notes on what DICOM objects do not carry are added to the warnings of `segmentation.run`.
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
    (workshop / SLICER).write_text(slicer_table(), encoding="utf-8")
    (workshop / SNAP).write_text(snap_table(), encoding="utf-8")
    picture = cache(lambda: draw(segmentation))
    try:
        if products.statistics:
            write_json(workshop / "statistics.json", segmentation.statistics)
        if products.preview:
            with attempts.at("preview.png"):
                (workshop / "preview.png").write_bytes(picture())
        if products.dicom:
            notes = dicom.write_objects(segmentation, frames, products.dicom, picture, attempts)
            segmentation.run["warnings"] = list(dict.fromkeys([*segmentation.run.get("warnings", []), *notes]))
        if products.report:
            with attempts.at("report.html"):
                (workshop / "report.html").write_text(report(segmentation), encoding="utf-8")
    finally:
        label_map()
    if products.probabilities and segmentation.posterior is not None:
        with attempts.at("probabilities.nii.gz"):
            write_probabilities(
                segmentation.posterior, workshop / "probabilities.nii.gz", label_map_path=label_map_path
            )
    names = [path.name for path in workshop.iterdir()]
    record = describe(segmentation, [*names, RECORD])
    if attempts.failed:
        record["failed"] = sorted(attempts.failed)
    record["seconds"] = {**record.get("seconds", {}), "writing": round(time.perf_counter() - begin, 3)}
    write_json(workshop / RECORD, record)
