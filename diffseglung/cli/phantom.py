"""Make chest CTs with known lesions: wholly synthetic, or drawn into a real, near-normal scan.

Each case is a folder with ct.nii.gz, lungs.nii.gz (1 right, 2 left), truth.nii.gz (label ids) and meta.json (all
parameters). The same seed gives the same bytes. Never tune or train on `--split test`.

  diffseglung phantom -o phantoms -n 4
  diffseglung phantom -o semi --background scan.nii.gz --seed 7
  diffseglung phantom -o faint --condition low_dose --severity subtle
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from diffseglung.cli.options import add_config, add_general_options, add_json, add_shared, read_config
from diffseglung.cli.terminal import answer, say
from diffseglung.platform.config import PhantomConfig

if TYPE_CHECKING:
    from diffseglung.phantom.record import Phantom


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `phantom`."""
    add_shared(parser, "output")
    parser.add_argument("-n", "--number", type=int, default=1, help="number of cases, seeds counting up (default: 1)")
    parser.add_argument("--models", nargs="+", default=[], metavar="MODEL", help="lesions to draw (default: a mix)")
    parser.add_argument("--background", type=Path, metavar="CT", help="draw lesions into this scan")
    parser.add_argument("--lung-mask", type=Path, help="lungs of the background (default: found in it)")
    parser.add_argument("--npz", action="store_true", help="also write NPZ training cases")
    add_json(parser, "the folders")
    add_general_options(parser, device=False)
    add_config(parser, PhantomConfig, skip=("models",))


def run(args: argparse.Namespace) -> int:
    """Make the cases one by one."""
    from diffseglung.cli.progress import bar
    from diffseglung.phantom.folder import write_case_folder
    from diffseglung.platform.errors import ConfigError

    if args.number < 1:
        raise ConfigError(f"the number of cases is {args.number}", remedy="give -n 1 or more")
    if args.background is None and args.lung_mask is not None:
        raise ConfigError("--lung-mask needs --background", remedy="give the scan of the mask")
    if args.background is not None and (args.healthy or args.size != "full"):
        raise ConfigError(
            "--healthy and --size do not go with --background",
            remedy="leave out either",
        )
    if args.background is not None and args.condition == "exhale":
        raise ConfigError("--condition exhale does not go with --background", remedy="leave out either")
    if args.healthy and args.severity != "any":
        raise ConfigError("--severity does not go with --healthy", remedy="leave out one of the two")
    folders: list[Path] = []
    with bar("making cases", quiet=args.quiet) as track:
        make = _maker(args)
        for seed in track(range(args.seed, args.seed + args.number), args.number):
            folder = args.output / f"{_kind(args)}_{args.split}_{seed:04d}"
            case = make(seed)
            write_case_folder(case, folder)
            if args.npz:
                _write_npz(case, folder)
            folders.append(folder)
            say(args, str(folder))
    answer(args, {"cases": folders})
    return 0


def _kind(args: argparse.Namespace) -> str:
    """First word of the name of a case."""
    if args.background is not None:
        return f"semi-{args.background.name.split('.')[0]}"
    return "healthy" if args.healthy else "phantom"


def _maker(args: argparse.Namespace) -> Callable[[int], Phantom]:
    """A function from seed to phantom, for the chosen generator."""
    from diffseglung.phantom.lesions import check_models
    from diffseglung.phantom.procedural import make_phantom
    from diffseglung.phantom.protocol import rescan
    from diffseglung.phantom.semisynthetic import add_lesions

    config = read_config(args, PhantomConfig)
    check_models(config.models)
    if args.background is None:
        return lambda seed: make_phantom(dataclasses.replace(config, seed=seed))
    from diffseglung import io
    from diffseglung.lungs.finder import find_lungs
    from diffseglung.lungs.masks import adapt_mask

    scan = io.read_scan(args.background)
    ct = scan.volume
    for note in scan.notes:
        say(args, f"note: {note}")
    lungs = adapt_mask(io.read_mask(args.lung_mask), ct) if args.lung_mask else find_lungs(ct)

    def drawn(seed: int) -> Phantom:
        case = add_lesions(ct, lungs, seed, split=args.split, models=config.models, severity=config.severity)
        return rescan(case, args.condition, seed=seed, split=args.split)

    return drawn


def _write_npz(phantom: Phantom, folder: Path) -> None:
    """Write the case as an NPZ training case beside its folder."""
    from diffseglung.io.npz import Case, write_case

    dataset, _, patient = folder.name.partition("_")
    case = Case(folder.name, phantom.ct, phantom.lungs, phantom.meta)
    write_case(folder.parent / f"{dataset}__{patient}.npz", case)
