"""How commands end in a real shell: broken pipes, Ctrl-C, defects, memory; and what -v and colours change."""

from __future__ import annotations

import argparse
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from diffseglung.cli import COMMANDS, exit_codes
from diffseglung.platform.errors import InputError
from tests.cli.test_progress import BAR

ROOT = Path(__file__).parents[2]
SLACK_S = 0.3
PLAIN = {"debug": False, "verbose": False, "quiet": False, "threads": None, "max_memory": None}
"""A help page's processor time beyond that of an empty Python."""


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    return kept | {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color"} | more


def ended(error: BaseException | None, **flags: bool) -> int:
    def work(_: argparse.Namespace) -> int:
        if error is not None:
            raise error
        return 0

    return exit_codes.run(argparse.Namespace(run=work, **{**PLAIN, **flags}))


def test_a_defect_is_one_sentence_with_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(ZeroDivisionError("division by zero\nmore")) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: unexpected error (ZeroDivisionError: division by zero)\n  try: ")
    with pytest.raises(ZeroDivisionError):
        ended(ZeroDivisionError(), debug=True)


def test_little_memory_has_its_own_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(MemoryError()) == 1
    assert "--fast" in capsys.readouterr().err


def test_verbose_tells_the_version_and_the_seconds_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(None, verbose=True) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.search(r"^diffseglung \d.*\n\d+\.\d s, exit code 0\n$", captured.err)
    ended(None, verbose=True, quiet=True)
    assert capsys.readouterr().err == ""


CHATTER = """
import logging, sys, warnings
from diffseglung.cli import info, main

def run(args):
    import matplotlib
    logging.getLogger("some.library").error("odd, but it works")
    warnings.warn("odd, but it works")

info.run = run
sys.exit(main(["info", *sys.argv[1:]]))
"""


@pytest.mark.parametrize(("words", "warnings", "told"), [([], "", True), (["-q"], "", False), (["-q"], "error", True)])
def test_quiet_silences_libraries_too(words: list[str], warnings: str, told: bool, tmp_path: Path) -> None:
    """Their loggers and warnings; what the user asked Python to do with warnings is done."""
    (tmp_path / "file").touch()
    env = environment(PYTHONWARNINGS=warnings, MPLCONFIGDIR=str(tmp_path / "file" / "x"))  # of which it would tell
    done = subprocess.run([sys.executable, "-c", CHATTER, *words], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == (warnings == "error")
    assert bool(done.stderr) == told
    assert ("Matplotlib created" in done.stderr) == (not words)


def test_an_error_is_red_only_where_colours_are_wanted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert ended(InputError("a.nii is empty", remedy="copy it again")) == 2
    assert capsys.readouterr().err == "\x1b[31merror:\x1b[0m a.nii is empty\n  try: copy it again\n"
    monkeypatch.setenv("NO_COLOR", "1")
    ended(InputError("a.nii is empty", remedy="copy it again"))
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="needs a shell's pipes")
@pytest.mark.parametrize("words", ["--help", "segment --help", "info --json", "completion bash"])
def test_a_reader_that_leaves_makes_no_noise(words: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "diffseglung", *words.split()]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, env=environment(), check=False)
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode == ("--help" not in words)


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_ctrl_c_ends_with_130_and_one_word(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "diffseglung", "phantom", "-o", str(tmp_path), "-n", "50", "--size", "small"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    ) as job:  # fmt: skip
        assert job.stdout is not None
        job.stdout.readline()  # the first case is made
        job.send_signal(signal.SIGINT)
        _, err = job.communicate(timeout=60)
    assert (job.returncode, err) == (130, "stopped\n")


def on_terminal(words: list[str], **more: str) -> str:
    """What a command draws on a terminal."""
    master, slave = pty.openpty()
    job = subprocess.Popen([sys.executable, *words], stdout=slave, stderr=slave, env=environment(**more))
    os.close(slave)
    seen = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([master], [], [], 0.2)[0]:
            try:
                part = os.read(master, 65536)
            except OSError:
                break
            if not part:
                break
            seen += part
        elif job.poll() is not None:
            break
    job.wait(10)
    os.close(master)
    return seen.decode()


COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-8][0-9;]*m")


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_bars_are_coloured_on_a_terminal_unless_no_color_is_set() -> None:
    plain, coloured = on_terminal(["-c", BAR], NO_COLOR="1"), on_terminal(["-c", BAR])
    assert "working" in plain
    assert "3/3" in plain
    assert not COLOUR.search(plain)
    assert COLOUR.search(coloured)


@pytest.mark.skipif(os.name != "posix", reason="reads the processor time of child processes")
@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_answers_at_once(command: str) -> None:
    def seconds(*words: str) -> float:
        import resource

        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, env=environment(), check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    words = [word for word in ("-m", "diffseglung", command, "--help") if word]
    tries: list[float] = []  # the least of two, and a third beside an empty Python where the machine is slow
    while len(tries) < 2 and min(tries, default=SLACK_S) >= SLACK_S:
        tries.append(seconds(*words))
    assert min(tries) < SLACK_S or min(tries) - seconds("-c", "pass") < SLACK_S
