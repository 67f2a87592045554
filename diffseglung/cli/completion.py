"""Print the shell code that completes commands, options and their choices.

bash:        eval "$(diffseglung completion bash)"            in ~/.bashrc
zsh:         eval "$(diffseglung completion zsh)"             in ~/.zshrc
fish:        diffseglung completion fish | source             in ~/.config/fish/config.fish
powershell:  diffseglung completion powershell | Out-String | Invoke-Expression
"""

from __future__ import annotations

import argparse

SHELLS = ("bash", "zsh", "fish", "powershell")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `completion`."""
    parser.add_argument("shell", choices=SHELLS, help="the shell")


def run(args: argparse.Namespace) -> int:
    """Print the code."""
    from argcomplete.shell_integration import shellcode

    print(shellcode(["diffseglung"], shell=args.shell))
    return 0


def answer(line: str, commands: dict[str, str]) -> None:
    """Print the completions of `line` for the shell, and end the process.

    Only the parser of the command in the line is built, to answer quickly.
    """
    import argcomplete

    from diffseglung.cli import Parser, module_of

    words = line.split()
    parser = Parser(prog="diffseglung")
    parser.add_argument("--version", action="store_true")
    table = parser.add_subparsers()
    for name, help in commands.items():
        entry = table.add_parser(name, help=help)
        if words[1:2] == [name]:
            module_of(name).add_arguments(entry)
    argcomplete.autocomplete(parser)
