"""Label every scan of a folder, on all cores of this machine, on a Dask cluster, or in a Slurm queue.

  diffseglung cohort -i scans -o results
  diffseglung cohort -i scans -o results --workers 4 --method combined
  diffseglung cohort -i scans -o results --scheduler tcp://node1:8786

Each scan gets a folder with the files of `diffseglung segment`. cohort.csv and cohort.parquet hold one row per scan,
with the error if it failed; cohort_redcap.csv and redcap_data_dictionary.csv are for REDCap; index.html shows all
scans. Run the same command again to continue: scans that are finished, from the same file and with the same settings,
are skipped; failed ones are tried again.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from diffseglung.cli import progress
from diffseglung.cli.options import (
    add_config,
    add_general_options,
    add_json,
    add_products,
    add_shared,
    read_config,
    read_products,
)
from diffseglung.cli.terminal import answer, harmless, say
from diffseglung.platform.config import PatienceConfig, SegmentConfig, default_method

if TYPE_CHECKING:
    from collections.abc import Callable

    from diffseglung.cohort.cluster import Place
    from diffseglung.cohort.plan import Order, Task
    from diffseglung.cohort.run import TaskResult

REFRESH_S = 30.0
"""How often the table and the page are updated during the run."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `cohort`."""
    parser.add_argument("-i", "--input", type=Path, help="folder of scans: files and DICOM series")
    add_shared(parser, "output", "model", "method", "fast", "mask_suffix")
    place = parser.add_argument_group("where the work runs")
    place.add_argument("--workers", type=int, default=0, help="parallel scans (default: as cores and memory allow)")
    place.add_argument("--scheduler", metavar="ADDRESS", help="a running Dask scheduler that sees the same folders")
    place.add_argument("--slurm", action="store_true", help="run one worker per job of a Slurm queue")
    place.add_argument(
        "--slurm-config", type=Path, metavar="FILE",
        help="YAML or JSON with options of dask_jobqueue.SLURMCluster (queue, account, walltime, ...)",
    )  # fmt: skip
    retries, timeout = PatienceConfig.retries, PatienceConfig.timeout_s
    place.add_argument(
        "--retries", type=int, default=retries, help=f"further attempts after a lost worker (default: {retries})"
    )
    place.add_argument(
        "--timeout", type=float, default=timeout, metavar="S", help=f"seconds per scan (default: {timeout:g})"
    )
    text = "label nothing: rebuild index.html and the files for REDCap from cohort.csv"
    parser.add_argument("--page-only", action="store_true", help=text)
    add_json(parser, "the rows")
    add_products(parser)
    add_general_options(parser)
    add_config(parser, SegmentConfig, skip=("method", "fast"))


def run(args: argparse.Namespace) -> int:
    """0 if all scans are labelled, 1 if some scans or some of their files failed."""
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
    """Write the page of an existing table; the table and the folders of the scans are not touched."""
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
    """Label the scans that are not finished; then write the table and the page."""
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
            except BaseException:  # Ctrl-C too: the table shows the progress
                told.write()
                raise
    rows = told.write()
    answer(args, rows)
    if not (args.json or args.quiet):
        print(f"{sum(row['status'] == 'done' for row in rows)} of {len(tasks)} scans are labelled in {args.output}")
        print(f"  {args.output / 'index.html'}")
    return 1 if any(row["status"] != "done" or row["error"] for row in rows) else 0


class _Progress:
    """Called with each outcome: counts them, reports failures, and keeps the table up to date."""

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
        """Write the table from the results on disk; returns its rows."""
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
    """Where to run.  Raises ConfigError for options that exclude each other."""
    from diffseglung.cohort.cluster import Place, read_options
    from diffseglung.platform.errors import ConfigError

    if args.workers < 0:
        raise ConfigError(f"--workers is {args.workers}", remedy="give 0 or more")
    if args.scheduler and (args.slurm or args.slurm_config):
        raise ConfigError("--scheduler and --slurm exclude each other", remedy="choose one")
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
    # loaded once here, so that errors come before any work
    segmenter = Segmenter.load(args.model, config=config, device=args.device, named=named)
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
