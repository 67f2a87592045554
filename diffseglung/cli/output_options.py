"""Options that choose which files a result consists of; the same for one scan and for many."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffseglung.output import Products

OBJECTS = ("seg", "sr", "sc")


def add_products(parser: argparse.ArgumentParser) -> None:
    """--save-probabilities, --dicom, and what can be left out."""
    group = parser.add_argument_group("files")
    group.add_argument(
        "--save-probabilities", "--save_probabilities", action="store_true", help="also write probabilities.nii.gz"
    )
    group.add_argument(
        "--dicom", nargs="*", choices=OBJECTS, metavar="OBJECT",
        help="also write DICOM objects, for a CT read from DICOM: seg (segmentation), sr (measurements), "
        "sc (the picture); without a name: seg and sr",
    )  # fmt: skip
    group.add_argument("--no-preview", dest="preview", action="store_false", help="do not draw preview.png")
    group.add_argument("--no-report", dest="report", action="store_false", help="do not write report.html")
    group.add_argument("--no-statistics", dest="statistics", action="store_false", help="do not write statistics.json")
    group.add_argument(
        "--keep-identifiers", "--keep_identifiers", action="store_true",
        help="write name, id, dates and UIDs of a DICOM scan's patient into run.json and report.html, and paths that "
        "hold them (default: they are left out; DICOM objects always carry them)",
    )  # fmt: skip


def read_products(args: argparse.Namespace) -> Products:
    """What was asked for."""
    from diffseglung.output import Products

    objects = () if args.dicom is None else tuple(args.dicom) or OBJECTS[:2]
    return Products(
        statistics=args.statistics,
        preview=args.preview,
        report=args.report,
        probabilities=args.save_probabilities,
        dicom=objects,
    )
