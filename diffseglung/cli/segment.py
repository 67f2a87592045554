"""Label every lung voxel of a CT: healthy, emphysema, GGO, fibrosis, consolidation.

Reads NIfTI, NRRD, MetaImage, DICOM (a folder or a ZIP archive), or an NPZ case. Writes label_map.nii.gz on exactly the
input's grid, statistics.json, preview.png, report.html and run.json into the output folder; DICOM objects on request.
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

from diffseglung.cli import add_config, add_general_options, read_config
from diffseglung.cli.colours import harmless
from diffseglung.cli.json_output import add_json, answer, say
from diffseglung.cli.output_options import add_products, read_products
from diffseglung.platform.config import METHODS, SegmentConfig, default_method
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
    """-i, -o and friends; the published --npz, --out are other spellings of the same."""
    parser.add_argument(
        "-i", "--input", "--npz", type=Path, required=True, help="CT: file, DICOM folder or ZIP, or NPZ case"
    )
    parser.add_argument("-o", "--output", "--out", type=Path, required=True, help="folder to write into")
    parser.add_argument(
        "-m", "--model", type=Path, default=None, help="weights file, for a method that needs one (default: installed)"
    )
    parser.add_argument(
        "--lung-mask", "--lung_mask", type=Path, default=None,
        help="lungs on the CT's grid: binary, a label map of lungmask or TotalSegmentator, or the latter's folder",
    )  # fmt: skip
    parser.add_argument(
        "--series", default=None, help="SeriesInstanceUID or number, where a folder holds several (default: the best)"
    )
    parser.add_argument(
        "--dry-run", "--dry_run", action="store_true",
        help="read the scan, find its lungs, tell what the rest will take, and write nothing",
    )  # fmt: skip
    add_json(parser, "the statistics")
    add_products(parser)
    add_general_options(parser)
    add_config(parser, SegmentConfig, skip=("method", "fast"))
    parser.add_argument(
        "-f",
        "--fast",
        action="store_true",
        help="quicker, a little less accurate: every third voxel, no fusion, no overlap of tiles",
    )
    parser.add_argument(
        "--method", choices=METHODS, default=None,
        help=f"how tissue is found (default: {default_method(False)}; with --model: {default_method(True)})",
    )  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One scan to segment.  mask: of the lungs.  series: of a DICOM folder.  named: whether the method was asked for.

    output: folder for the files.
    """

    origin: Origin
    output: Path
    config: SegmentConfig
    products: Products
    series: str | None = None
    model: Path | None = None
    named: bool = False
    device: str = "auto"


def run(args: argparse.Namespace) -> int:
    """Segment one scan, or with --dry-run tell what that would take."""
    from diffseglung.cli.progress import bar

    job = _job(args)
    if args.lungs != "auto":
        say(args, f"{LUNG_TOOLS[args.lungs]} finds the lungs; without a GPU that takes minutes")
    if args.dry_run:
        return _foretell(args, job)
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
    """From file to files, and what of them failed.  check: raises where scan or mask is not what it should be."""
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
    """The model, the scan and the mask of its lungs; what cannot be made of the scan is an error now."""
    from diffseglung.io import read_mask, read_scan

    path = job.origin.path
    with ThreadPoolExecutor(1) as pool:  # the file is unpacked while libraries are loaded
        reading = pool.submit(read_scan, path, series_uid=job.series)
        from diffseglung.output import check_folder, check_products
        from diffseglung.pipeline import Segmenter

        check_folder(job.output)
        scan = reading.result()
    check_products(job.products, scan.frames)
    mask = read_mask(job.origin.mask) if job.origin.mask else case_lungs(path, job.config)
    return Segmenter.load(job.model, config=job.config, device=job.device, named=job.named), scan, mask


def _foretell(args: argparse.Namespace, job: Job) -> int:
    """--dry-run: read, find the lungs, tell the rest."""
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
    """The lung mask inside an NPZ case; None for every other input, and where a tool was asked for by name."""
    if path.suffix.lower() != ".npz" or config.lungs != "auto":
        return None
    from diffseglung.io.npz import read_case

    return read_case(path).lungs


def report(statistics: dict, run_record: dict, files: list[Path]) -> None:  # type: ignore[type-arg]
    """What was found and where it lies, for a person."""
    from diffseglung.labels import TISSUES

    for label in TISSUES:
        entry = statistics[label.name]
        print(f"  {label.title:24} {entry['volume_ml']:8.1f} mL  {100 * entry['fraction_of_lung']:5.1f} % of lung")
    for warning in run_record["warnings"]:
        print(harmless(f"  note: {warning}"))
    print("\n".join(harmless(f"  {path}") for path in files))
