"""Label every scan of a folder, on all cores of this machine, a Dask cluster, or a Slurm queue.

  diffseglung cohort -i scans -o results
  diffseglung cohort -i scans -o results --workers 4 --method combined
  diffseglung cohort -i scans -o results --scheduler tcp://node1:8786

Each scan gets a folder with the files of `diffseglung segment`. cohort.csv and cohort.parquet hold one row a scan, with
its error where it failed; cohort_redcap.csv and redcap_data_dictionary.csv are for REDCap; index.html shows all scans.
Start it again and it goes on where it was stopped: what is finished, of the same file and with the same settings, is
not done again; what failed is tried again.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from diffseglung.cli import add_config, add_general_options, progress, read_config
from diffseglung.cli.colours import harmless
from diffseglung.cli.json_output import add_json, answer, say
from diffseglung.cli.output_options import add_products, read_products
from diffseglung.platform.config import METHODS, PatienceConfig, SegmentConfig, default_method

if TYPE_CHECKING:
    from collections.abc import Callable

    from diffseglung.cohort.cluster import Place
    from diffseglung.cohort.plan import Order, Task
    from diffseglung.cohort.run import TaskResult

REFRESH_S = 30.0
"""How often the table and the page are brought up to date while work goes on."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("-i", "--input", type=Path, help="folder of scans: files and DICOM series")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the results")
    parser.add_argument("-m", "--model", type=Path, help="weights file, for a method that needs one")
    parser.add_argument(
        "--method", choices=METHODS,
        help=f"how tissue is found (default: {default_method(False)}; with --model: {default_method(True)})",
    )  # fmt: skip
    parser.add_argument(
        "--mask-suffix", "--mask_suffix", metavar="TEXT",
        help="take X<TEXT>.nii.gz as the lung mask of X.nii.gz, for example _lung (default: lungs are found)",
    )  # fmt: skip
    place = parser.add_argument_group("where the work runs")
    place.add_argument("--workers", type=int, default=0, help="scans at a time (default: as cores and memory allow)")
    place.add_argument("--scheduler", metavar="ADDRESS", help="a running Dask scheduler, which sees the same folders")
    place.add_argument("--slurm", action="store_true", help="jobs of a Slurm queue, one worker each")
    place.add_argument(
        "--slurm-config", "--slurm_config", type=Path, metavar="FILE",
        help="YAML or JSON with options of dask_jobqueue.SLURMCluster (queue, account, walltime, ...)",
    )  # fmt: skip
    place.add_argument(
        "--retries", type=int, default=PatienceConfig.retries,
        help=f"further tries after a lost worker (default: {PatienceConfig.retries})",
    )  # fmt: skip
    place.add_argument(
        "--timeout", type=float, default=PatienceConfig.timeout_s, metavar="S",
        help=f"of one scan (default: {PatienceConfig.timeout_s:g} s)",
    )  # fmt: skip
    parser.add_argument(
        "--page-only", "--page_only", action="store_true",
        help="label nothing: make index.html and the files for REDCap anew from cohort.csv",
    )  # fmt: skip
    add_json(parser, "the rows")
    add_products(parser)
    add_general_options(parser)
    add_config(parser, SegmentConfig, skip=("method", "fast"))
    parser.add_argument("-f", "--fast", action="store_true", help="as in segment: quicker, a little less accurate")


def run(args: argparse.Namespace) -> int:
    """0 all scans are labelled, 1 some failed, or some of their files."""
    from diffseglung.cohort.plan import alone, plan
    from diffseglung.output import check_folder
    from diffseglung.platform.errors import ConfigError
    from diffseglung.platform.extras import require, require_lung_tool

    if args.page_only:
        return _page_only(args)
    if args.input is None:
        raise ConfigError("--input is missing", remedy="name the folder of scans")
    require("cohort", "labelling a cohort")
    if args.dicom is not None:
        require("dicom", "DICOM output")
    require_lung_tool(args.lungs, mask_given=args.mask_suffix is not None)
    patience = PatienceConfig(retries=args.retries, timeout_s=args.timeout)
    place = _place(args)
    check_folder(args.output)
    order = _order(args)
    tasks = plan(args.input, order, mask_suffix=args.mask_suffix, tell=lambda text: say(args, f"note: {text}"))
    with alone(args.output):
        return _label(args, tasks, order, place, patience)


def _page_only(args: argparse.Namespace) -> int:
    """The page of a table; neither the table nor any scan's folder is touched."""
    from diffseglung.cohort import page, redcap, table
    from diffseglung.cohort.plan import alone

    rows = table.read_table(args.output)
    with alone(args.output):
        redcap.write_redcap(rows, args.output)
        path = page.write_page(rows, args.output)
    if not args.quiet:
        print(path)
    return 0


def _label(args: argparse.Namespace, tasks: list[Task], order: Order, place: Place, patience: PatienceConfig) -> int:
    """What is not finished yet; then the table and the page."""
    from diffseglung.cohort import run, table
    from diffseglung.cohort.cluster import connected
    from diffseglung.cohort.plan import is_finished

    todo = [task for task in tasks if not is_finished(task, args.output)]
    names = {task.name for task in tasks}
    failed = {name: value for name, value in table.read_failed(args.output).items() if name in names}
    told = _Progress(args, tasks, failed, before=len(tasks) - len(todo))
    if todo:
        order = _with_threads(order, place, len(todo))
        with (
            connected(place, len(todo), verbose=args.verbose) as client,
            progress.counting("labelling", start=len(tasks) - len(todo), total=len(tasks), quiet=args.quiet) as show,
        ):
            told.show = show
            try:
                run.run_tasks(client, todo, order, patience, told)
            except BaseException:  # Ctrl-C too: the table tells how far it came
                told.write()
                raise
    rows = told.write()
    answer(args, rows)
    if not (args.json or args.quiet):
        print(f"{sum(row['status'] == 'done' for row in rows)} of {len(tasks)} scans are labelled in {args.output}")
        print(f"  {args.output / 'index.html'}")
    return 1 if any(row["status"] != "done" or row["error"] for row in rows) else 0


class _Progress:
    """Takes outcomes: counts them, tells of failures, and keeps the table up to date."""

    def __init__(self, args: argparse.Namespace, tasks: list[Task], failed: dict, *, before: int) -> None:  # type: ignore[type-arg]
        self.args, self.tasks, self.failed = args, tasks, failed
        self.done, self.written = before, time.monotonic()
        self.show: Callable[[int, str], None] = lambda done, note: None

    def __call__(self, outcome: TaskResult | None) -> None:
        from diffseglung.cohort import table

        if outcome is not None:
            self.done += 1
            self.failed = table.with_result(self.failed, outcome)
            table.write_failed(self.args.output, self.failed)
            self.show(self.done, outcome.name)
            if outcome.error:
                print(harmless(f"failed: {outcome.source}\n  {outcome.error}"), file=sys.stderr)
            elif not self.args.quiet and not progress.wanted(self.args.quiet):
                say(self.args, f"{outcome.name}: {outcome.seconds:.1f} s")
        if time.monotonic() - self.written > REFRESH_S:
            self.write()

    def write(self) -> list:  # type: ignore[type-arg]
        """The table as things stand, made from what is on disk."""
        from diffseglung.cohort import table
        from diffseglung.cohort.page import write_page
        from diffseglung.cohort.redcap import write_redcap

        self.written = time.monotonic()
        rows = table.rows_of(self.tasks, self.args.output)
        table.write_tables(rows, self.args.output)
        write_redcap(rows, self.args.output)
        write_page(rows, self.args.output)
        return rows


def _place(args: argparse.Namespace) -> Place:
    """Where to run; ConfigError for what does not go together."""
    from diffseglung.cohort.cluster import Place, read_options
    from diffseglung.platform.errors import ConfigError

    if args.workers < 0:
        raise ConfigError("--workers counts from 0 up", remedy="give a positive number")
    if args.scheduler and (args.slurm or args.slurm_config):
        raise ConfigError("--scheduler and --slurm name two places", remedy="choose one")
    slurm = None
    if args.slurm or args.slurm_config:
        slurm = read_options(args.slurm_config) if args.slurm_config else {}
    from diffseglung.platform.runtime import shared_gpus

    return Place(args.workers, args.scheduler, slurm, shared_gpus(args.device), args.threads or 0)


def _order(args: argparse.Namespace) -> Order:
    from diffseglung.cohort.plan import Order
    from diffseglung.pipeline import Segmenter

    named, args.method = args.method is not None, args.method or default_method(args.model is not None)
    config = read_config(args, SegmentConfig)
    segmenter = Segmenter.load(args.model, config=config, device=args.device, named=named)  # errors come here, once
    return Order(
        output=args.output.absolute(),
        config=config,
        model=args.model.absolute() if args.model else None,
        model_hash=segmenter.bundle.sha256 if segmenter.bundle else None,
        named=named,
        device=args.device,
        products=read_products(args),
        keep=args.keep_identifiers,
    )


def _with_threads(order: Order, place: Place, scans: int) -> Order:
    from dataclasses import replace

    from diffseglung.cohort.cluster import threads_each

    return replace(order, threads=threads_each(place, scans))
