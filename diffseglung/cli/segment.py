"""Label every lung voxel of a CT: healthy, emphysema, GGO, fibrosis, consolidation.

Reads NIfTI, NRRD, MetaImage, DICOM (a folder or a ZIP archive), or an NPZ case. Writes label_map.nii.gz on exactly the
input's grid, statistics.json, preview.png, report.html and run.json into the output folder; DICOM objects on request.
Research use only; not a medical device.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from diffseglung.cli import add_conduct, add_config, read_config
from diffseglung.cli.products import add_products, read_products
from diffseglung.config import METHODS, SegmentConfig, default_method

if TYPE_CHECKING:
    from diffseglung.features.diffusion import Progress
    from diffseglung.segmentation import Segmentation
    from diffseglung.volume import Volume


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """-i, -o and friends; the seed's --npz, --out are other spellings of the same."""
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
    parser.add_argument("--json", action="store_true", help="print statistics as JSON")
    add_products(parser)
    add_conduct(parser)
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


def run(args: argparse.Namespace) -> int:
    """Segment one scan."""
    from diffseglung.cli.progress import bar

    named, args.method = args.method is not None, args.method or default_method(args.model is not None)
    with bar(quiet=args.quiet) as progress:
        result, files = _segment(args, named, progress)
    if args.json:
        import json

        print(json.dumps(result.statistics, indent=2))
    elif not args.quiet:
        report(result.statistics, result.run, files)
    return 0


def _segment(args: argparse.Namespace, named: bool, progress: Progress) -> tuple[Segmentation, list[Path]]:
    """From file to files.  named: whether the method was asked for by name."""
    from diffseglung.io import read_mask, read_scan, scan_name

    with ThreadPoolExecutor(1) as pool:  # the file is unpacked while libraries are loaded
        begin = time.perf_counter()
        reading = pool.submit(read_scan, args.input, series_uid=args.series)
        from diffseglung.output import check_folder, check_products, write
        from diffseglung.pipeline import Segmenter

        check_folder(args.output)
        products = read_products(args)
        scan = reading.result()
        check_products(products, scan.frames)
    mask = read_mask(args.lung_mask) if args.lung_mask else case_lungs(args.input)
    seconds = {"loading and reading": round(time.perf_counter() - begin, 3)}
    config = read_config(args, SegmentConfig)
    segmenter = Segmenter.load(args.model, config=config, device=args.device, named=named)
    result = segmenter(
        scan.volume,
        mask,
        name=scan_name(args.input),
        notes=scan.notes,
        probabilities=products.probabilities,
        progress=progress,
    )
    result.run["seconds"] = seconds | result.run["seconds"]
    return result, write(result, args.output, products, frames=scan.frames)


def case_lungs(path: Path) -> Volume | None:
    """The lung mask inside an NPZ case; None for every other input, whose lungs are found."""
    if path.suffix.lower() != ".npz":
        return None
    from diffseglung.io.cases import read_lungs

    return read_lungs(path)


def report(statistics: dict, run_record: dict, files: list[Path]) -> None:  # type: ignore[type-arg]
    """What was found and where it lies, for a person."""
    from diffseglung.labels import TISSUES

    for label in TISSUES:
        entry = statistics[label.name]
        print(f"  {label.title:24} {entry['volume_ml']:8.1f} mL  {100 * entry['fraction_of_lung']:5.1f} % of lung")
    for warning in run_record["warnings"]:
        print(f"  note: {warning}")
    print("\n".join(f"  {path}" for path in files))
