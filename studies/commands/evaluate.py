"""Score label maps against ground truth: Dice, HD95, surface Dice, volumes and false lesions, per class.

  diffseglung evaluate --cases phantoms -o scores.json
  diffseglung evaluate --cases phantoms --predictions results -o scores.json --baselines
  diffseglung evaluate --prediction out/label_map.nii.gz --truth phantoms/phantom_test_0000/truth.nii.gz

With --cases, the default method labels each case within the case's own lungs; with --predictions, the label map of case
NAME is PREDICTIONS/NAME/label_map.nii.gz or PREDICTIONS/NAME.nii.gz. A prediction may be a label map or the
folder that `diffseglung segment` wrote; a truth may be a label map or a case folder of `diffseglung phantom`. A class
absent from both maps has no score (a dash, null in JSON). `diffseglung benchmark` compares other methods.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffseglung.cli.options import add_general_options, add_json
from diffseglung.cli.terminal import answer, harmless, say
from diffseglung.platform.config import SegmentConfig
from diffseglung.platform.errors import ConfigError, DiffSegLungError, InputError

if TYPE_CHECKING:
    from diffseglung.volume import Volume

Job = tuple[str, Path | None, Path]
"""Name of a case, its prediction (None: by the default method), its truth."""
Scores = dict[str, dict[str, dict[str, Any]]]
"""method -> case -> scores."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `evaluate`."""
    parser.add_argument("--prediction", type=Path, nargs="+", default=[], metavar="PATH", help="label maps to score")
    parser.add_argument("--truth", type=Path, nargs="+", default=[], metavar="PATH", help="their truths, same order")
    parser.add_argument("--cases", type=Path, metavar="DIR", help="folder of case folders, or one of them")
    parser.add_argument("--predictions", type=Path, metavar="DIR", help="folder with predictions of --cases")
    parser.add_argument("-o", "--output", type=Path, help="scores as JSON here, and as CSV beside it")
    add_json(parser, "the scores")
    parser.add_argument("--baselines", action="store_true", help="also score the baselines (needs --cases)")
    parser.add_argument("--no-surfaces", action="store_true", help="skip the surface distances (faster)")
    add_general_options(parser, device=False)


def run(args: argparse.Namespace) -> int:
    """Score, print and write; 0 if all cases are scored, 1 if some failed."""
    from studies import report, scores

    jobs = _jobs(args)
    cases, failed = _score(args, jobs)
    pooled = {method: scores.pool(list(scored.values())) for method, scored in cases.items()}
    answer(args, report.rounded({"pooled": pooled, "cases": cases}))
    if not args.json and not args.quiet:
        _print(pooled)
    if args.output:
        target = args.output if args.output.suffix == ".json" else args.output / "scores.json"
        for path in report.write(target, pooled, cases):
            say(args, str(path))
    for name, error in failed.items():
        print(harmless(f"failed: {name}\n  {error}"), file=sys.stderr)
    return 1 if failed else 0


def _jobs(args: argparse.Namespace) -> list[Job]:
    """What to score, checked before any work."""
    if args.cases is None:
        if args.predictions or args.baselines:
            raise ConfigError("--predictions and --baselines need --cases", remedy="give --cases DIR")
        if not args.prediction or len(args.prediction) != len(args.truth):
            raise ConfigError(
                f"{len(args.prediction)} predictions and {len(args.truth)} truths were given",
                remedy="give --prediction and --truth, one truth for each prediction, or --cases with --predictions",
            )
        pairs = zip(args.prediction, args.truth, strict=True)
        return [(f"{i}:{p.name}", _label_map(p), _truth(t)) for i, (p, t) in enumerate(pairs)]
    if args.prediction or args.truth:
        raise ConfigError("--cases excludes --prediction and --truth", remedy="use one of the two ways")
    folders = [path.parent for path in (args.cases / "truth.nii.gz", *sorted(args.cases.glob("*/truth.nii.gz")))]
    folders = [folder for folder in folders if (folder / "truth.nii.gz").is_file()]
    if not folders:
        raise InputError(
            f"{args.cases} holds no case folders with truth.nii.gz", remedy="make some: diffseglung phantom"
        )
    return [
        (folder.name, _find(args.predictions, folder.name) if args.predictions else None, folder / "truth.nii.gz")
        for folder in folders
    ]


def _label_map(path: Path) -> Path:
    """A label map, given as a file or as the folder of a result."""
    found = path / "label_map.nii.gz" if path.is_dir() else path
    if not found.exists():
        raise InputError(f"{found} does not exist", remedy="give a label map or a folder written by segment")
    return found


def _truth(path: Path) -> Path:
    """A truth, given as a file or as its case folder."""
    found = path / "truth.nii.gz" if path.is_dir() else path
    if not found.exists():
        raise InputError(f"{found} does not exist", remedy="give a truth or a case folder written by phantom")
    return found


def _find(predictions: Path, name: str) -> Path:
    """The prediction of a case."""
    options = [predictions / name / "label_map.nii.gz", predictions / f"{name}.nii.gz"]
    for option in options:
        if option.exists():
            return option
    raise InputError(
        f"there is no prediction of case {name}: {options[0]} does not exist", remedy="segment that case first"
    )


def _score(args: argparse.Namespace, jobs: list[Job]) -> tuple[Scores, dict[str, DiffSegLungError]]:
    """The scores, and the errors of cases that failed; raises the first error if all failed."""
    from diffseglung import io
    from diffseglung.cli.progress import bar
    from studies.scores import score_case

    cases: Scores = {}
    failed: dict[str, DiffSegLungError] = {}
    with bar("scoring", quiet=args.quiet) as track:
        for name, prediction, truth_path in track(jobs, len(jobs)):
            try:
                truth = io.read_mask(truth_path)
                maps = {"prediction": io.read_mask(prediction)} if prediction else {}
                maps |= _labelled(args, truth_path.parent)
                found = {key: score_case(map, truth, surfaces=not args.no_surfaces) for key, map in maps.items()}
            except DiffSegLungError as error:
                failed[name] = error
                continue
            for method, scored in found.items():
                cases.setdefault(method, {})[name] = scored
    if not cases:
        raise next(iter(failed.values()))
    return cases, failed


def _labelled(args: argparse.Namespace, folder: Path) -> dict[str, Volume]:
    """Label maps of one case folder: of the default method if no prediction was given, and of the baselines."""
    from diffseglung.pipeline import Segmenter
    from studies.baselines import BASELINES
    from studies.runner import read_case

    own = args.cases is not None and args.predictions is None
    if not (own or args.baselines):
        return {}
    ct, lungs, _ = read_case(folder)
    config = SegmentConfig()
    maps = {config.method: Segmenter.load(config=config)(ct, lungs).label_map} if own else {}
    return maps | ({name: baseline(ct, lungs) for name, baseline in BASELINES.items()} if args.baselines else {})


def _print(pooled: dict[str, dict[str, Any]]) -> None:
    """Print one row per method; tab-separated if the output is not a terminal."""
    from studies import report

    rows = report.table(pooled)
    if not sys.stdout.isatty():
        for row in (report.HEADER, *rows):
            print("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Dice pooled over cases (%)")
    for i, name in enumerate(report.HEADER):
        table.add_column(name, justify="right" if i else "left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
