"""Make chest CTs with known lesions: from nothing (procedural), or drawn into a real, near-normal scan.

Each case becomes a folder with ct.nii.gz, lungs.nii.gz (1 right, 2 left), truth.nii.gz (label ids) and meta.json
(every parameter). The same seed gives the same bytes. Never tune or train on `--split test`.

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

from diffseglung.cli import add_config, add_general_options, read_config
from diffseglung.cli.json_output import add_json, answer, say
from diffseglung.platform.config import PhantomConfig

if TYPE_CHECKING:
    from diffseglung.phantom.record import Phantom


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the cases")
    parser.add_argument(
        "-n", "--number", type=int, default=1, help="how many cases, with seeds that count up (default: 1)"
    )
    parser.add_argument("--models", nargs="+", default=[], metavar="MODEL", help="lesions to draw (default: a mix)")
    parser.add_argument("--background", type=Path, metavar="CT", help="draw lesions into this scan")
    parser.add_argument("--lung-mask", "--lung_mask", type=Path, help="lungs of the background (default: found in it)")
    parser.add_argument("--npz", action="store_true", help="also write NPZ training cases")
    add_json(parser, "the folders")
    add_general_options(parser, device=False)
    add_config(parser, PhantomConfig, skip=("models",))


def run(args: argparse.Namespace) -> int:
    """Make the cases, one after another."""
    from diffseglung.cli.progress import bar
    from diffseglung.phantom.folder import write_case_folder
    from diffseglung.platform.errors import ConfigError

    if args.number < 1:
        raise ConfigError(f"the number of cases is {args.number}", remedy="-n 1 or more")
    if args.background is None and args.lung_mask is not None:
        raise ConfigError("--lung-mask was given without --background", remedy="give the scan that the mask belongs to")
    if args.background is not None and (args.healthy or args.size != "full"):
        raise ConfigError(
            "--healthy and --size shape a chest from nothing, but --background gives one",
            remedy="leave them out, or leave out --background",
        )
    if args.background is not None and args.condition == "exhale":
        raise ConfigError("a given scan cannot be made to breathe out", remedy="leave out --background or --condition")
    if args.healthy and args.severity != "any":
        raise ConfigError("--severity needs lesions, but --healthy has none", remedy="leave out one of the two")
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
    """First word of a case's name."""
    if args.background is not None:
        return f"semi-{args.background.name.split('.')[0]}"
    return "healthy" if args.healthy else "phantom"


def _maker(args: argparse.Namespace) -> Callable[[int], Phantom]:
    """seed -> Phantom, for the chosen generator."""
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
    """The same case as an NPZ training case beside its folder."""
    from diffseglung.io.npz import Case, write_case

    dataset, _, patient = folder.name.partition("_")
    case = Case(folder.name, phantom.ct, phantom.lungs, phantom.meta)
    write_case(folder.parent / f"{dataset}__{patient}.npz", case)
