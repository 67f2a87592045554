"""Convert CTs of any format to training cases.

Reads one file, one DICOM series, or a folder of studies, finds the lungs (or reads your masks), and writes
`<dataset>__<patient>.npz` with the keys ct, mask and meta. A scan that fails is reported; the others are converted.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffseglung.cli.options import add_general_options, add_json, add_shared
from diffseglung.cli.terminal import answer, harmless, say
from diffseglung.platform.config import LUNGS, LUNGS_HELP
from diffseglung.platform.extras import require_lung_tool

if TYPE_CHECKING:
    from diffseglung.io.npz import Case
    from diffseglung.io.studies import Study
    from diffseglung.platform.errors import DiffSegLungError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `convert`."""
    parser.add_argument("-i", "--input", type=Path, required=True, help="a scan, a DICOM series, or a folder of them")
    add_shared(parser, "output", "lung_mask", "mask_suffix", "series")
    parser.add_argument("--dataset", default="local", help="first part of the name of each case (default: local)")
    parser.add_argument("--lungs", choices=LUNGS, default=LUNGS[0], help=f"{LUNGS_HELP} (default: {LUNGS[0]})")
    parser.add_argument(
        "--spacing-mm", type=float, default=0.0, metavar="V",
        help="resample to isotropic voxels of this size; 0 keeps the grid of each scan (default: 0)",
    )  # fmt: skip
    parser.add_argument(
        "--keep-identifiers", action="store_true",
        help="name cases after their folders even if these name the patient of a DICOM scan (default: scan-<hash>)",
    )  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="replace cases that exist (default: keep them)")
    parser.add_argument("--no-compress", action="store_true", help="larger files, faster to read")
    add_json(parser, "the cases and the failures")
    add_general_options(parser, device=False)


def run(args: argparse.Namespace) -> int:
    """0 if all are converted, 1 if some failed.  Raises InputError if none could be converted."""
    from diffseglung.cli.progress import bar
    from diffseglung.io.npz import write_case
    from diffseglung.io.studies import clean_name
    from diffseglung.platform.errors import DiffSegLungError, InputError

    require_lung_tool(args.lungs, mask_given=bool(args.lung_mask or args.mask_suffix))
    dataset = clean_name(args.dataset)
    studies = _studies(args)
    rows: list[dict[str, Any]] = []
    failures: list[DiffSegLungError] = []
    with bar("converting", quiet=args.quiet) as track:
        for study in track(studies, len(studies)):
            path = args.output / f"{dataset}__{study.name}.npz"
            if path.exists() and not args.overwrite:
                rows.append({"input": study.told(str(study.path)), "case": path, "status": "kept"})
                say(args, f"{path.name}: kept (--overwrite replaces it)")
                continue
            try:
                case = _convert(study, path.stem, args)
                write_case(path, case, compress=not args.no_compress)
            except DiffSegLungError as error:
                failures.append(error)
                row = {"input": study.told(str(study.path)), "case": None, "status": "failed"}
                rows.append({**row, "problem": study.told(error.problem), "remedy": error.remedy})
                text = f"failed: {study.path}\n  {error.problem}\n  try: {error.remedy}"
                print(harmless(study.told(text)), file=sys.stderr)
                continue
            rows.append({"input": study.told(str(study.path)), "case": path, "status": "made", **_facts(case)})
            say(args, _summary(path, case))
    answer(args, {"scans": rows})
    if len(failures) == len(studies):
        raise InputError(
            f"none of the {len(studies)} scans at {args.input} could be converted",
            remedy=failures[0].remedy,
        )
    say(args, f"{len(studies) - len(failures)} of {len(studies)} scans are cases in {args.output}")
    return 1 if failures else 0


def _studies(args: argparse.Namespace) -> list[Study]:
    """What to convert; one scan if a mask or a series is named."""
    from diffseglung.io.studies import Study, find_studies, named
    from diffseglung.platform.errors import ConfigError

    if args.spacing_mm and not 0.3 <= args.spacing_mm <= 10:
        raise ConfigError(f"--spacing-mm is {args.spacing_mm}", remedy="give 0, or 0.3 to 10 mm")
    if args.series:
        study = Study("", args.input, args.lung_mask, series_uid=args.series)
        return [named(study, (args.input.resolve().name, f"s{args.series}"), keep=args.keep_identifiers)]
    studies = find_studies(
        args.input,
        mask_suffix=args.mask_suffix,
        keep=args.keep_identifiers,
        tell=lambda text: say(args, f"note: {text}"),
    )
    if args.lung_mask is None:
        return studies
    if len(studies) > 1:
        raise ConfigError(
            f"--lung-mask is one mask, but {args.input} holds {len(studies)} scans",
            remedy="convert one scan at a time, or match masks by name with --mask-suffix",
        )
    (only,) = studies
    return [replace(only, mask=args.lung_mask)]


def _convert(study: Study, name: str, args: argparse.Namespace) -> Case:
    from diffseglung.case.resample import resample
    from diffseglung.io import read_mask
    from diffseglung.io.npz import Case
    from diffseglung.lungs.external_tools import Source, lungs_of
    from diffseglung.platform.runtime import choose_device

    scan = study.read()
    ct = scan.volume
    finder = Source(args.lungs, str(choose_device("auto")))
    lungs = lungs_of(ct, read_mask(study.mask) if study.mask else None, finder)
    if args.spacing_mm:
        ct, lungs = resample(ct, args.spacing_mm, order=1), resample(lungs, args.spacing_mm, order=0)
    meta = {"source": scan.source, "notes": scan.notes, "lung_mask": "given" if study.mask else "found"}
    return Case(name, ct, lungs, meta | {"lung_tool": finder.record()})


def _facts(case: Case) -> dict[str, Any]:
    return {
        "shape_zyx": list(case.ct.shape),
        "spacing_mm_zyx": list(case.ct.spacing_mm),
        "lung_ml": float((case.lungs.array > 0).sum()) * case.ct.voxel_ml,
        "notes": case.meta.get("notes", []),
    }


def _summary(path: Path, case: Case) -> str:
    shape = " x ".join(str(n) for n in case.ct.shape)
    spacing = " x ".join(f"{s:.3g}" for s in case.ct.spacing_mm)
    litres = _facts(case)["lung_ml"] / 1000
    lines = [f"{path.name}: {shape} voxels of {spacing} mm, lungs {litres:.1f} L"]
    return "\n".join(lines + [f"  note: {note}" for note in case.meta.get("notes", [])])
