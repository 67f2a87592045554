# PYTHON_ARGCOMPLETE_OK
"""The command line: a table of commands, and the entry points of `diffseglung` and of the scripts in the root folder.

Only this package parses arguments, prints, and turns errors into exit codes: 0 done, 1 the run failed, 2 the command
line or the input was wrong, 130 stopped by Ctrl-C, 143 by SIGTERM.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from diffseglung import __version__
from diffseglung.cli import exit_codes, options
from diffseglung.platform.errors import ConfigError, InputError

COMMANDS = {
    "segment": "label every lung voxel of a CT",
    "rerun": "reproduce a result from its run.json, and compare",
    "cohort": "label every scan of a folder, on many cores or machines",
    "view": "show a result in three planes and 3D, in the browser",
    "phantom": "make chest CTs with known lesions, synthetic or from a real scan",
    "evaluate": "score the default method, or label maps, against truth",
    "benchmark": "compare every method and baseline on cases with known truth",
    "bench": "time every stage and the whole job",
    "convert": "convert CTs of any format to training cases with lung masks",
    "precompute": "cut training patches from cases",
    "train": "train the diffusion model (stage 1)",
    "distill": "distil radiomics into the features of the model (stage 2)",
    "finetune": "train the model to label tissue, on synthetic lesions (stage 3, end to end)",
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
    """An argument parser that accepts --lung_mask for --lung-mask and vice versa, and no abbreviations."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more, allow_abbrev=False)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As the base class, with each option in a spelling that the parser knows."""
        words = sys.argv[1:] if args is None else args
        return super().parse_known_args([self._known(word) for word in words], namespace)

    def _known(self, word: str) -> str:
        name, equals, value = word.partition("=")
        if not name.startswith("--") or name in self._option_string_actions:
            return word
        twins = ("--" + name[2:].replace(*pair) for pair in (("_", "-"), ("-", "_")))
        return next((twin for twin in twins if twin in self._option_string_actions), name) + equals + value


def require_inputs(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Raise InputError for the first input path that does not exist, before the command loads its libraries."""
    for action in parser._actions:
        given = getattr(args, action.dest) if action.type is Path and action.dest not in NOT_READ else None
        for path in given if isinstance(given, list) else [given]:
            if path is not None and not path.exists():
                name = action.option_strings[0] if action.option_strings else action.dest
                raise InputError(f"{path} does not exist", remedy=f"check the path of {name} ({action.help})")


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
        options.add_general_options(parser, device=False)

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
        epilog=f"commands:\n{listing}\n\n`diffseglung COMMAND --help` lists the options of a command.",
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
