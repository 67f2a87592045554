"""Print what a shell needs to complete commands, options and their choices.

bash:        eval "$(diffseglung completion bash)"            in ~/.bashrc
zsh:         eval "$(diffseglung completion zsh)"             in ~/.zshrc
fish:        diffseglung completion fish | source             in ~/.config/fish/config.fish
powershell:  diffseglung completion powershell | Out-String | Invoke-Expression
"""

from __future__ import annotations

import argparse
import importlib

SHELLS = ("bash", "zsh", "fish", "powershell")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The shell."""
    parser.add_argument("shell", choices=SHELLS, help="the shell that will read it")


def run(args: argparse.Namespace) -> int:
    """Print its code."""
    from argcomplete.shell_integration import shellcode

    print(shellcode(["diffseglung"], shell=args.shell))
    return 0


def answer(line: str, commands: dict[str, str]) -> None:
    """Answer a shell that asks how `line` may go on; ends the process.

    Only the parser of the command in the line is built, so that the answer comes at once.
    """
    import argcomplete

    from diffseglung.cli import Parser

    words = line.split()
    parser = Parser(prog="diffseglung")
    parser.add_argument("--version", action="store_true")
    table = parser.add_subparsers()
    for name, help in commands.items():
        entry = table.add_parser(name, help=help)
        if words[1:2] == [name]:
            importlib.import_module(f"diffseglung.cli.{name}").add_arguments(entry)
    argcomplete.autocomplete(parser)
