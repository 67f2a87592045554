"""A shell that asks gets commands, options and choices; asked for its code it gets that of the shell."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from diffseglung.cli import COMMANDS, main
from diffseglung.cli.completion import SHELLS
from diffseglung.platform.config import METHODS

RUN = "import sys; sys.argv = ['diffseglung']; from diffseglung.cli import main; main()"


def completed(line: str, tmp_path: Path) -> set[str]:
    """What the program answers when a shell asks how a line may go on."""
    answer = tmp_path / "answer"
    environment = {
        **os.environ, "_ARGCOMPLETE": "1", "_ARGCOMPLETE_STDOUT_FILENAME": str(answer), "_ARGCOMPLETE_IFS": "\n",
        "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9",
    }  # fmt: skip
    done = subprocess.run([sys.executable, "-c", RUN], env=environment, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return {word.strip() for word in answer.read_text(encoding="utf-8").split("\n") if word.strip()}


def test_commands_are_completed(tmp_path: Path) -> None:
    assert completed("diffseglung se", tmp_path) == {"segment"}
    assert completed("diffseglung ", tmp_path) >= COMMANDS.keys()


def test_options_of_the_command_are_completed(tmp_path: Path) -> None:
    assert "--method" in completed("diffseglung segment --me", tmp_path)
    assert "--epochs" not in completed("diffseglung segment --", tmp_path)


def test_choices_are_completed(tmp_path: Path) -> None:
    assert completed("diffseglung segment --method ", tmp_path) == set(METHODS)


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_gets_its_code(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "diffseglung" in capsys.readouterr().out


def test_bash_takes_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    main(["completion", "bash"])
    code = capsys.readouterr().out + "\ncomplete -p diffseglung"
    done = subprocess.run([bash, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "diffseglung" in done.stdout
