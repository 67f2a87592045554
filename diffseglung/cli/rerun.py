"""Reproduce a result from its run.json, and compare.

Scan, lung mask, model, settings and files are those of the record. The scan and the model are recognised by their
fingerprints, so files that were moved or renamed can be given with -i, --lung-mask and -m. Exit code 0 if the label map
is the same voxel by voxel, else 1.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffseglung.cli.options import add_general_options, add_json
from diffseglung.cli.terminal import answer, say

if TYPE_CHECKING:
    from diffseglung.cli.segment import Job
    from diffseglung.output.record import Recorded


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `rerun`."""
    parser.add_argument("record", type=Path, help="run.json of a result, or its folder")
    parser.add_argument("-o", "--output", type=Path, required=True, help="output folder, not that of the record")
    parser.add_argument("-i", "--input", type=Path, help="the scan (default: the recorded path)")
    parser.add_argument("--lung-mask", type=Path, help="its lung mask (default: the recorded path)")
    parser.add_argument("-m", "--model", type=Path, help="the weights file (default: the recorded path)")
    add_json(parser, "what was compared")
    add_general_options(parser)


def run(args: argparse.Namespace) -> int:
    """0 if the label map is the same, else 1."""
    from diffseglung.cli import segment
    from diffseglung.cli.progress import bar
    from diffseglung.output import record

    recorded = record.read(args.record)
    recorded.check_output(args.output)
    job = _job(args, recorded)
    with bar(quiet=args.quiet) as progress:
        result, _, failure = segment.done(job, progress, check=recorded.check_inputs)
    found = record.compare(recorded, result)
    answer(args, found)
    for line in record.lines(found):
        say(args, line)
    if failure is not None:
        raise failure
    return 0 if found["same_labels"] else 1


def _job(args: argparse.Namespace, recorded: Recorded) -> Job:
    from diffseglung.cli.segment import Job
    from diffseglung.output.record import Origin

    origin = Origin(recorded.scan(args.input), recorded.lung_mask(args.lung_mask), keep=recorded.keeps_identifiers)
    options: dict[str, Any] = {"device": recorded.device if args.device == "auto" else args.device}
    return Job(
        origin, args.output, recorded.config, recorded.products, series=recorded.series,
        model=recorded.model(args.model), named=True, **options,
    )  # fmt: skip
