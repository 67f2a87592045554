"""Time every stage and the whole job on synthetic scans of clinical size, beside peers and the machine's own limits.

  diffseglung bench -o bench --quick
  diffseglung bench -o bench
  diffseglung bench -o bench --parts scan mixture

Writes bench.md (tables) and bench.json into the output folder, and keeps the scans it makes there. Peers (scikit-learn,
scikit-image, MONAI, diffusers) are timed in turn with ours where they are installed. Close other programs first; the
whole takes about twenty minutes on two cores.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from diffseglung.cli import add_config, add_general_options, read_config
from diffseglung.platform.config import BenchConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from studies.speed.clock import Row

PARTS = ("scan", "lungs", "published", "network", "radiomics", "mixture", "training")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for tables and scans")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to time (default: all)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one run each: does everything work?")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    add_general_options(parser, device=False)
    add_config(parser, BenchConfig)


def run(args: argparse.Namespace) -> int:
    """Time the parts one after another; the tables are written after each."""
    from diffseglung.cli.progress import bar
    from diffseglung.output import check_folder
    from studies.speed.machine import machine
    from studies.speed.report import table, write

    read_config(args, BenchConfig)  # refuses what is out of range
    check_folder(args.output)
    rows: list[Row] = []
    files: list[Path] = []
    with bar("timing", quiet=args.quiet) as track:
        for part in track(args.parts, len(args.parts)):
            rows += _timer(part, args)()
            files = write(args.output, rows, machine())
    if args.json:
        print(files[1].read_text(encoding="utf-8"), end="")
    elif not args.quiet:
        print(table(rows, machine()))
        print("\n".join(str(path) for path in files))
    return 0


def _timer(part: str, args: argparse.Namespace) -> Callable[[], list[Row]]:
    """What times a part; imports belong here, so that help answers at once."""
    scans = args.output / "scans"
    if part == "scan":
        from studies.speed import whole

        if args.quick:
            return lambda: whole.rows(scans, [whole.Job("small")], 1)
        return lambda: whole.rows(scans, repeats=args.repeats)
    if part == "lungs":
        from studies.speed import lungs

        if args.quick:
            return lambda: lungs.rows(scans, size="small", repeats=1)
        return lambda: lungs.rows(scans, repeats=args.repeats)
    if part == "published":
        from studies.speed import published

        if args.quick:
            return lambda: published.rows(scans, 1, size="small", network="tiny")
        return lambda: published.rows(scans, args.repeats)
    if part == "network":
        from studies.speed import network

        return lambda: network.rows(args.quick)
    if part == "training":
        from studies.speed import training

        return lambda: training.rows(args.quick)
    if part == "mixture":
        from studies.speed import mixture

        return lambda: mixture.rows(args.quick)
    from studies.speed import radiomics

    return lambda: radiomics.rows(args.quick)
