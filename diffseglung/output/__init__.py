"""Results onto disk: a label map, its measurements, a picture, and how they were made."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from diffseglung import durable
from diffseglung.errors import ConfigError
from diffseglung.io.scan import Frame
from diffseglung.output import colour_tables, dicom
from diffseglung.output.label_map import write_label_map, write_probabilities
from diffseglung.output.preview import draw
from diffseglung.output.report.page import report
from diffseglung.output.run_record import RECORD, describe, write_json
from diffseglung.runtime import started
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
    """
    products = products or Products()
    target = check_folder(folder)
    check_products(products, frames)
    if products.probabilities and segmentation.posterior is None:
        raise ConfigError("this segmentation has no posterior", remedy="segment with probabilities=True")
    with durable.workshop(target) as made:
        _make(segmentation, made, products, frames)
        durable.settle(made)
        target.mkdir(exist_ok=True)
        (target / RECORD).unlink(missing_ok=True)
        for name in FILES:
            if (made / name).exists():
                (made / name).replace(target / name)
            else:
                (target / name).unlink(missing_ok=True)
    return [target / name for name in FILES if (target / name).exists()]


def _make(segmentation: Segmentation, workshop: Path, products: Products, frames: Sequence[Frame]) -> None:
    begin, label_map_path = time.perf_counter(), workshop / "label_map.nii.gz"
    label_map = started(lambda: write_label_map(segmentation, label_map_path))
    (workshop / colour_tables.SLICER).write_text(colour_tables.slicer_table(), encoding="utf-8")
    (workshop / colour_tables.SNAP).write_text(colour_tables.snap_table(), encoding="utf-8")
    try:
        if products.statistics:
            write_json(workshop / "statistics.json", segmentation.statistics)
        picture = draw(segmentation) if products.preview or "sc" in products.dicom else b""
        if products.preview:
            (workshop / "preview.png").write_bytes(picture)
        if products.report:
            (workshop / "report.html").write_text(report(segmentation), encoding="utf-8")
        if products.dicom:
            dicom.write_objects(segmentation, frames, workshop, products.dicom, picture)
    finally:
        label_map()
    if products.probabilities:
        write_probabilities(segmentation, workshop / "probabilities.nii.gz", label_map_path=label_map_path)
    names = [path.name for path in workshop.iterdir()]
    record = describe(segmentation, [*names, "run.json"])
    record["seconds"] = {**record.get("seconds", {}), "writing": round(time.perf_counter() - begin, 3)}
    write_json(workshop / "run.json", record)
