"""Time all stages and the whole job on synthetic scans of clinical size, against other libraries and hardware limits.

  diffseglung bench -o bench --quick
  diffseglung bench -o bench
  diffseglung bench -o bench --parts scan mixture

Writes bench.md (tables) and bench.json into the output folder, and keeps its scans there. Other libraries
(scikit-learn, scikit-image, MONAI, diffusers) are timed alternately with this package if they are installed. Close
other programs first; everything takes about twenty minutes on two cores.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from diffseglung.cli.options import add_config, add_general_options, read_config
from diffseglung.platform.config import BenchConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from studies.speed.clock import Row

PARTS = ("scan", "lungs", "published", "network", "radiomics", "mixture", "training")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `bench`."""
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for tables and scans")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to time (default: all)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one run each, as a smoke test")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    add_general_options(parser, device=False)
    add_config(parser, BenchConfig)


def run(args: argparse.Namespace) -> int:
    """Time the parts one by one; the tables are written after each."""
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
    """The function that times a part; imported here, so that --help stays fast."""
    timer = importlib.import_module(f"studies.speed.{'whole' if part == 'scan' else part}")
    scans = args.output / "scans"
    if part in ("network", "training", "mixture", "radiomics"):
        return lambda: timer.rows(args.quick)
    if not args.quick:
        return lambda: timer.rows(scans, repeats=args.repeats)
    if part == "scan":
        return lambda: timer.rows(scans, [timer.Job("small")], repeats=1)
    tiny = {"network": "tiny"} if part == "published" else {}
    return lambda: timer.rows(scans, repeats=1, size="small", **tiny)
