"""Label every lung voxel of a CT: healthy, emphysema, GGO, fibrosis, consolidation.

Reads NIfTI, NRRD, MetaImage, DICOM (a folder or a ZIP archive), or an NPZ case. Writes label_map.nii.gz on the grid of
the input, statistics.json, preview.png, report.html and run.json into the output folder; DICOM objects on request.
Research use only; not a medical device.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

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
from diffseglung.platform.config import SegmentConfig, default_method
from diffseglung.platform.errors import OutputError
from diffseglung.platform.extras import LUNG_TOOLS, require_lung_tool

if TYPE_CHECKING:
    from collections.abc import Callable

    from diffseglung.io import Scan
    from diffseglung.method.features import Progress
    from diffseglung.output import Products
    from diffseglung.output.record import Origin
    from diffseglung.pipeline import Segmenter
    from diffseglung.segmentation import Segmentation
    from diffseglung.volume import Volume

    Check = Callable[[Volume, Volume | None], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `segment`; --npz and --out are the published spellings of -i and -o."""
    add_shared(parser, "input", "output", "model", "lung_mask", "series", "method", "fast")
    text = "read the scan, find its lungs, estimate the rest of the work, and write nothing"
    parser.add_argument("--dry-run", action="store_true", help=text)
    add_json(parser, "the statistics")
    add_products(parser)
    add_general_options(parser)
    add_config(parser, SegmentConfig, skip=("method", "fast"))


@dataclass(frozen=True)
class Job:
    """One scan to segment.  output: folder for the files.  series: of a DICOM folder.  named: --method was given."""

    origin: Origin
    output: Path
    config: SegmentConfig
    products: Products
    series: str | None = None
    model: Path | None = None
    named: bool = False
    device: str = "auto"


def run(args: argparse.Namespace) -> int:
    """Segment one scan, or with --dry-run estimate the work."""
    from diffseglung.cli.progress import bar

    job = _job(args)
    if args.lungs != "auto":
        say(args, f"{LUNG_TOOLS[args.lungs]} finds the lungs; this takes minutes without a GPU")
    if args.dry_run:
        return _dry_run(args, job)
    with bar(quiet=args.quiet) as progress:
        result, files, failure = done(job, progress)
    answer(args, result.statistics)
    if not (args.json or args.quiet):
        report(result.statistics, result.run, files)
    if failure is not None:
        raise failure
    return 0


def _job(args: argparse.Namespace) -> Job:
    from diffseglung.output.record import Origin

    require_lung_tool(args.lungs, mask_given=args.lung_mask is not None)
    named, args.method = args.method is not None, args.method or default_method(args.model is not None)
    return Job(
        origin=Origin(args.input, args.lung_mask, keep=args.keep_identifiers),
        output=args.output,
        config=read_config(args, SegmentConfig),
        products=read_products(args),
        series=args.series,
        model=args.model,
        named=named,
        device=args.device,
    )


def done(
    job: Job, progress: Progress, check: Check | None = None
) -> tuple[Segmentation, list[Path], OutputError | None]:
    """The result, the files written, and the error if some could not be written.

    check: called with the scan and its lung mask; raises if they are not the expected ones.
    """
    begin = time.perf_counter()
    segmenter, scan, mask = ready(job)
    from diffseglung.output import write

    if check is not None:
        check(scan.volume, mask)
    seconds = {"loading and reading": round(time.perf_counter() - begin, 3)}
    result = segmenter.of_file(scan, job.origin, mask, probabilities=job.products.probabilities, progress=progress)
    result.run["seconds"] = seconds | result.run["seconds"]
    try:
        return result, write(result, job.output, job.products, frames=scan.frames), None
    except OutputError as failure:
        return result, failure.files, failure


def ready(job: Job) -> tuple[Segmenter, Scan, Volume | None]:
    """The model, the scan and its lung mask (None: to be found); checks that the files can be made from the scan."""
    from diffseglung.io import read_mask, read_scan

    path = job.origin.path
    with ThreadPoolExecutor(1) as pool:  # read the file while libraries are imported
        reading = pool.submit(read_scan, path, series_uid=job.series)
        from diffseglung.output import check_folder, check_products
        from diffseglung.pipeline import Segmenter

        check_folder(job.output)
        scan = reading.result()
    check_products(job.products, scan.frames)
    mask = read_mask(job.origin.mask) if job.origin.mask else case_lungs(path, job.config)
    return Segmenter.load(job.model, config=job.config, device=job.device, named=job.named), scan, mask


def _dry_run(args: argparse.Namespace, job: Job) -> int:
    """--dry-run: read the scan, find its lungs, estimate the rest."""
    from diffseglung import dry_run

    begin = time.perf_counter()
    segmenter, scan, mask = ready(job)
    read_s = time.perf_counter() - begin
    found = dry_run.foretell(segmenter, scan.volume, mask, before_s=read_s)
    answer(args, dataclasses.asdict(found))
    for line in found.lines():
        say(args, line)
    return 0


def case_lungs(path: Path, config: SegmentConfig) -> Volume | None:
    """The lung mask in an NPZ case; None for any other input, or if --lungs names a tool."""
    if path.suffix.lower() != ".npz" or config.lungs != "auto":
        return None
    from diffseglung.io.npz import read_case

    return read_case(path).lungs


def report(statistics: dict, run_record: dict, files: list[Path]) -> None:  # type: ignore[type-arg]
    """Print the volumes, the warnings and the files."""
    from diffseglung.labels import TISSUES

    for label in TISSUES:
        entry = statistics[label.name]
        print(f"  {label.title:24} {entry['volume_ml']:8.1f} mL  {100 * entry['fraction_of_lung']:5.1f} % of lung")
    for warning in run_record["warnings"]:
        print(harmless(f"  note: {warning}"))
    print("\n".join(harmless(f"  {path}") for path in files))
