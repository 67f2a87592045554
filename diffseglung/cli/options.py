"""Options that several commands share, and options made from settings.

Each long option has one spelling here; the parser also accepts underscores for hyphens, and vice versa.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from diffseglung.platform.config import METHODS, RECIPES, Config, default_method

if TYPE_CHECKING:
    from diffseglung.output import Products

C = TypeVar("C", bound=Config)

DICOM_OBJECTS = ("seg", "sr", "sc")

_SHARED: dict[str, tuple[list[str], dict[str, Any]]] = {
    "input": (
        ["-i", "--input", "--npz"],
        {"type": Path, "required": True, "help": "CT: a file, a DICOM folder or ZIP archive, or an NPZ case"},
    ),
    "output": (["-o", "--output", "--out"], {"type": Path, "required": True, "help": "output folder"}),
    "model": (["-m", "--model"], {"type": Path, "help": "weights file (default: the installed model)"}),
    "lung_mask": (
        ["--lung-mask"],
        {
            "type": Path,
            "help": "lungs on the grid of the CT: a binary mask, a label map of lungmask or TotalSegmentator, or a "
            "folder of TotalSegmentator (default: the mask of an NPZ case, else found in the CT)",
        },
    ),
    "mask_suffix": (
        ["--mask-suffix"],
        {"metavar": "TEXT", "help": "take X<TEXT>.nii.gz as the lung mask of X.nii.gz, for example _lung"},
    ),
    "series": (
        ["--series"],
        {"metavar": "S", "help": "SeriesInstanceUID or number, if a folder holds several series (default: the best)"},
    ),
    "dataset": (["--dataset"], {"default": "", "help": "use only cases whose file name begins with this"}),
    "method": (
        ["--method"],
        {
            "choices": METHODS,
            "help": f"tissue classification (default: {default_method(False)}; with --model: {default_method(True)})",
        },
    ),
    "fast": (
        ["-f", "--fast"],
        {
            "action": "store_true",
            "help": "faster, slightly less accurate: every third voxel, no fusion, no overlap of tiles",
        },
    ),
}


def add_shared(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add options that mean the same in every command that has them."""
    for name in names:
        flags, keywords = _SHARED[name]
        parser.add_argument(*flags, **keywords)


def add_json(parser: argparse.ArgumentParser, what: str = "a summary") -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help=f"print {what} as one JSON document")


def add_general_options(parser: argparse.ArgumentParser, *, device: bool = True) -> None:
    """Add the options that every command has: device (unless False), threads, memory, quiet, verbose, debug."""
    group = parser.add_argument_group("general")
    if device:
        group.add_argument("-d", "--device", default="auto", help="auto, cpu, cuda, cuda:N, gpu, mps (default: auto)")
    group.add_argument("--threads", type=int, metavar="N", help="processor threads (default: one per core)")
    group.add_argument(
        "--max-memory", type=float, metavar="GIB", help="memory limit of a process, libraries included (default: none)"
    )
    group.add_argument("-q", "--quiet", action="store_true", help="print errors only")
    group.add_argument("-v", "--verbose", action="store_true", help="print more")
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")


def add_config(
    parser: argparse.ArgumentParser, config: type[Config], *, skip: Sequence[str] = (), command: str = ""
) -> None:
    """Add one option for each setting of `config`, with its default in the help.

    command: a command with recipes; settings that are not given are then left to `read_config`.
    """
    group = parser.add_argument_group(f"{config.__name__.removesuffix('Config').lower()} settings")
    hints = get_type_hints(config)
    for field in dataclasses.fields(config):
        if field.name in skip:
            continue
        default = RECIPES["default"][command].get(field.name, field.default) if command else field.default
        shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
        keywords: dict[str, Any] = {
            "default": argparse.SUPPRESS if command else default,
            "help": f"{field.metadata['help']} (default: {shown})".replace("%", "%%"),
        }
        if isinstance(default, bool):
            keywords["action"] = argparse.BooleanOptionalAction
        elif isinstance(default, tuple):
            count = "+" if "..." in str(hints[field.name]) else len(default)
            keywords |= {"type": type(default[0]), "nargs": count, "metavar": "V"}
        elif field.metadata["choices"]:
            keywords |= {"choices": field.metadata["choices"]}
        else:
            keywords |= {"type": type(default), "metavar": "V"}
        names = [field.name, *(old for old, new in config.RENAMED.items() if new == field.name)]
        group.add_argument(*("--" + name.replace("_", "-") for name in names), **keywords)


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Add --recipe."""
    text = "settings that are not given: default, as long as published; shipped, those of the shipped model"
    parser.add_argument("--recipe", choices=RECIPES, default="default", help=text)


def read_config(args: argparse.Namespace, config: type[C], *, command: str = "") -> C:
    """The settings of `config` from the command line; what was not given comes from the recipe of `command`."""
    values = {**(RECIPES[args.recipe][command] if command else {}), **vars(args)}
    names = [field.name for field in dataclasses.fields(config) if field.name in values]
    return config.from_dict({name: values[name] for name in names})


def add_products(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose the files of a result."""
    group = parser.add_argument_group("files")
    group.add_argument("--save-probabilities", action="store_true", help="also write probabilities.nii.gz")
    group.add_argument(
        "--dicom", nargs="*", choices=DICOM_OBJECTS, metavar="OBJECT",
        help="also write DICOM objects, for a CT read from DICOM: seg (segmentation), sr (measurements), "
        "sc (the picture); without a name: seg and sr",
    )  # fmt: skip
    for name in ("preview.png", "report.html", "statistics.json"):
        kind = name.split(".")[0]
        group.add_argument(f"--no-{kind}", dest=kind, action="store_false", help=f"do not write {name}")
    group.add_argument(
        "--keep-identifiers", action="store_true",
        help="write name, id, dates and UIDs of a DICOM scan's patient into run.json and report.html, and paths that "
        "hold them (default: left out; DICOM objects always carry them)",
    )  # fmt: skip


def read_products(args: argparse.Namespace) -> Products:
    """The files that were asked for."""
    from diffseglung.output import Products

    objects = () if args.dicom is None else tuple(args.dicom) or DICOM_OBJECTS[:2]
    return Products(
        statistics=args.statistics,
        preview=args.preview,
        report=args.report,
        probabilities=args.save_probabilities,
        dicom=objects,
    )
