# PYTHON_ARGCOMPLETE_OK
"""Command line: a table of commands, and a way to run one of them as a root-level script.

Only this package parses arguments, prints, and turns errors into exit codes:
0 done, 1 the run failed, 2 the command line or the input was wrong, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, get_type_hints

from diffseglung import __version__
from diffseglung.cli import exit_codes
from diffseglung.platform.config import RECIPES, Config
from diffseglung.platform.errors import ConfigError, InputError

C = TypeVar("C", bound=Config)

COMMANDS = {
    "segment": "label every lung voxel of a CT",
    "rerun": "make a result again from its run.json, and compare",
    "cohort": "label every scan of a folder, on many cores or machines",
    "view": "look at a result in three planes and 3D, in the browser",
    "phantom": "make chest CTs with known lesions, from nothing or in a real scan",
    "evaluate": "score the default method, or label maps, against truth",
    "benchmark": "compare every method and baseline on cases with known truth",
    "bench": "time every stage and the whole job",
    "convert": "turn CTs of any format into training cases with lung masks",
    "precompute": "cut training patches from cases",
    "train": "learn the diffusion model (stage 1)",
    "distill": "let radiomics shape the model's features (stage 2)",
    "finetune": "teach the model to label tissue, on synthetic lesions (stage 3, end to end)",
    "fit": "fit the tissue classifiers on an unlabelled cohort (stage 3)",
    "sample": "draw CT patches from a trained model",
    "clusters": "show the radiomic clusters of a volume",
    "info": "check this installation, or describe and check scans, cases, models and results",
    "completion": "print the shell code that completes commands",
}
"""name -> one-line help; the module is diffseglung.cli.<name>, imported only when it is used."""

FORMER = {"doctor": "info", "check": "info --training"}
"""Commands that are still accepted, and what replaces them."""
IN_STUDIES = ("benchmark", "evaluate", "bench")
"""Commands whose module is studies.commands.<name>: in a clone, not in the installed package."""
NOT_READ = ("output", "out_dir", "results_dir", "resume")
"""Path options whose target may be missing: outputs, and weights that an interrupted run no longer needs."""


class Parser(argparse.ArgumentParser):
    """An argument parser that takes --lung_mask for --lung-mask and the other way round, and no abbreviations."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more, allow_abbrev=False)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As the base class, after each option was put into a spelling that the parser knows."""
        words = sys.argv[1:] if args is None else args
        return super().parse_known_args([self._known(word) for word in words], namespace)

    def _known(self, word: str) -> str:
        name, equals, value = word.partition("=")
        if not name.startswith("--") or name in self._option_string_actions:
            return word
        twins = ("--" + name[2:].replace(*pair) for pair in (("_", "-"), ("-", "_")))
        return next((twin for twin in twins if twin in self._option_string_actions), name) + equals + value


def spellings(name: str) -> list[str]:
    """Both spellings of an option: --low-hu and --low_hu."""
    return list(dict.fromkeys(["--" + name.replace("_", "-"), "--" + name]))


def require_inputs(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Raise InputError for the first path to read that names nothing: before a command loads its libraries."""
    for action in parser._actions:
        given = getattr(args, action.dest) if action.type is Path and action.dest not in NOT_READ else None
        for path in given if isinstance(given, list) else [given]:
            if path is not None and not path.exists():
                name = action.option_strings[0] if action.option_strings else action.dest
                raise InputError(f"{path} does not exist", remedy=f"check the path of {name} ({action.help})")


def add_config(
    parser: argparse.ArgumentParser, config: type[Config], *, skip: Sequence[str] = (), command: str = ""
) -> None:
    """One option per setting of `config`, in both spellings, with its default and range in the help.

    command: one that has recipes; settings that are not given are then left to `read_config`.
    """
    group = parser.add_argument_group(f"{config.__name__.removesuffix('Config').lower()} settings")
    hints = get_type_hints(config)
    for field in dataclasses.fields(config):
        if field.name in skip:
            continue
        meta, default = field.metadata, field.default
        if command:
            default = RECIPES["default"][command].get(field.name, default)
        unset = argparse.SUPPRESS if command else default
        help = f"{meta['help']} (default: {' '.join(map(str, default)) if isinstance(default, tuple) else default})"
        old = [name for name, new in config.RENAMED.items() if new == field.name]
        names = [word for name in (field.name, *old) for word in spellings(name)]
        if isinstance(default, bool):
            group.add_argument(
                *names, action=argparse.BooleanOptionalAction, default=unset, help=help.replace("%", "%%")
            )
        elif isinstance(default, tuple):
            count: int | str = "+" if "..." in str(hints[field.name]) else len(default)
            kind: type = type(default[0])
            group.add_argument(*names, type=kind, nargs=count, default=unset, metavar="V", help=help.replace("%", "%%"))
        else:
            choices = meta.get("choices") or None
            metavar = None if choices else "V"
            group.add_argument(
                *names,
                type=type(default),
                default=unset,
                choices=choices,
                metavar=metavar,
                help=help.replace("%", "%%"),
            )


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """The option --recipe."""
    parser.add_argument(
        "--recipe", choices=RECIPES, default="default",
        help="settings where they are not given: default, long as published; shipped, those of the shipped model",
    )  # fmt: skip


def read_config(args: argparse.Namespace, config: type[C], *, command: str = "") -> C:
    """The settings of `config` as given on the command line; the rest as the recipe of `command` has them."""
    recipe = RECIPES[args.recipe][command] if command else {}
    values = {**recipe, **vars(args)}
    names = [field.name for field in dataclasses.fields(config) if field.name in values]
    return config.from_dict({name: values[name] for name in names})


def add_general_options(parser: argparse.ArgumentParser, *, device: bool = True) -> None:
    """Options every command has: device, threads, memory, quiet, verbose, debug."""
    group = parser.add_argument_group("conduct")
    if device:
        group.add_argument("-d", "--device", default="auto", help="auto, cpu, cuda, cuda:N, gpu, mps (default: auto)")
    group.add_argument("--threads", type=int, metavar="N", help="processor threads (default: one a core)")
    group.add_argument(
        "--max-memory", "--max_memory", type=float, metavar="GIB",
        help="memory that a process may take, libraries included (default: no limit of its own)",
    )  # fmt: skip
    group.add_argument("-q", "--quiet", action="store_true", help="say nothing but errors")
    group.add_argument("-v", "--verbose", action="store_true", help="say more")
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")


def module_of(command: str) -> ModuleType:
    """The module of a command.  Raises ConfigError for a command of `studies` in an installation without them."""
    if command not in IN_STUDIES:
        return importlib.import_module(f"diffseglung.cli.{'info' if command == 'doctor' else command}")
    root = Path(__file__).parents[2]
    if not (root / "studies" / "commands").is_dir():
        raise ConfigError(
            f"{command} is one of the studies, which are not part of the installed package",
            remedy="run it in a clone of the repository, after make install",
        )
    if str(root) not in sys.path:
        sys.path.append(str(root))
    return importlib.import_module(f"studies.commands.{command}")


def build_parser(command: str, prog: str | None = None) -> argparse.ArgumentParser:
    """The argument parser of one command.  Raises ConfigError as `module_of` does."""
    module = module_of(command)
    parser = Parser(prog=prog, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    module.add_arguments(parser)
    if not any("--debug" in action.option_strings for action in parser._actions):
        add_general_options(parser, device=False)

    def run(args: argparse.Namespace) -> int | None:
        require_inputs(parser, args)
        code: int | None = module.run(args)
        return code

    parser.set_defaults(run=run)
    return parser


def run_command(command: str, argv: Sequence[str], prog: str | None = None) -> int:
    """Parse and run; an error becomes one sentence and an exit code."""

    def call() -> int:
        try:
            parser = build_parser(command, prog)
        except ConfigError as error:
            exit_codes.print_error(error.problem, error.remedy)
            return 2
        return exit_codes.run(parser.parse_args(argv))

    return exit_codes.piped(call)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `diffseglung COMMAND ...`."""
    if "_ARGCOMPLETE" in os.environ:
        from diffseglung.cli import completion

        completion.answer(os.environ.get("COMP_LINE", ""), COMMANDS)
    words = list(sys.argv[1:] if argv is None else argv)
    return exit_codes.piped(lambda: _main(words))


def _main(words: Sequence[str]) -> int:
    listing = "\n".join(f"  {name:12} {help}" for name, help in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="diffseglung",
        usage="diffseglung COMMAND [options]",
        description="Label-free lung pathology maps from chest CT. Research use only; not a medical device.",
        epilog=f"commands:\n{listing}\n\n`diffseglung COMMAND --help` tells what a command takes.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"diffseglung {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of the commands below")
    if not words:
        parser.print_help()
        return 0
    if words[0] in FORMER:
        print(f"note: `diffseglung {words[0]}` is now `diffseglung {FORMER[words[0]]}`", file=sys.stderr)
        command = words[0]
    elif not words[0].startswith("-") and words[0] not in COMMANDS:
        return _unknown(words[0])
    else:
        command = parser.parse_args(words[:1]).command
    return run_command(command, words[1:], prog=f"diffseglung {command}")


def _unknown(word: str) -> int:
    near = difflib.get_close_matches(word, COMMANDS, n=1)
    remedy = f"diffseglung {near[0]}" if near else "diffseglung --help, which lists the commands"
    problem = f"there is no command {word!r}"
    exit_codes.print_error(problem, remedy)
    return 2


def run_script(command: str) -> int:
    """Entry point of a root-level script: `python train.py ...`."""
    return run_command(command, sys.argv[1:])
