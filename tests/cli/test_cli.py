"""The shell of the command line: quick help, both spellings, one exit code for each kind of ending."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import diffseglung
from diffseglung import cli
from diffseglung.cli import COMMANDS, build_parser, main, module_of
from diffseglung.platform.errors import (
    CheckpointError,
    ConfigError,
    DiffSegLungError,
    GeometryError,
    InputError,
    TrainingError,
)

ROOT = Path(__file__).parents[2]
SCRIPTS = {
    "train.py": "train",
    "train_distill.py": "distill",
    "precompute_patches.py": "precompute",
    "inference_volume_distill.py": "segment",
    "segment_volume_voxel_level_ditil.py": "segment",
    "segment_volume_voxel_level_abalation.py": "segment",
    "sample.py": "sample",
    "visualize_clusters.py": "clusters",
    "sanity_check.py": "check",
}


def python(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch):
    """fake(error): makes the command `info` raise it."""

    def install(error: BaseException | None, code: int | None = None) -> None:
        def run(_: argparse.Namespace) -> int | None:
            if error is not None:
                raise error
            return code

        module = types.ModuleType("diffseglung.cli.info", "A command.")
        module.add_arguments, module.run = lambda parser: None, run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "diffseglung.cli.info", module)

    return install


def test_no_command_s_help_loads_the_heavy_libraries() -> None:
    code = (
        "import sys; from diffseglung.cli import COMMANDS, build_parser\n"
        "for name in COMMANDS:\n    build_parser(name).format_help()\n"
        "print(sorted({'torch', 'numpy', 'SimpleITK', 'matplotlib', 'sklearn', 'scipy', 'nibabel'} & set(sys.modules)))"
    )
    done = python("-c", code)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


MISSING = """
import sys
from pathlib import Path
from diffseglung.cli import COMMANDS, NOT_READ, build_parser, main

def named(action, value):
    return [*action.option_strings[:1], value]

there = Path(sys.argv[1])
checked = []
for command in COMMANDS:
    parser = build_parser(command)
    read = [a for a in parser._actions if a.type is Path and a.dest not in NOT_READ]
    if command == "distill":
        read += [a for a in parser._actions if a.dest == "resume"]
    for missing in read:
        words = [command, *named(missing, "no where.nii.gz")]
        for other in parser._actions:
            if other.required and other is not missing:
                words += named(other, str(there / "out" if other.dest in NOT_READ else there))
        assert main(words) == 2, words
        checked.append(command)
        loaded = {"torch", "numpy", "SimpleITK", "matplotlib", "sklearn", "scipy", "nibabel"} & sys.modules.keys()
        assert not loaded, (words, loaded)
assert not list(there.iterdir())
print(len(checked), sorted(set(COMMANDS) - set(checked)))
"""


def test_a_missing_file_is_told_before_the_heavy_libraries_are_loaded(tmp_path: Path) -> None:
    """Every path that any command reads."""
    done = python("-c", MISSING, str(tmp_path))
    count, others = done.stdout.strip().split(" ", 1)
    assert int(count) > 25
    assert others == str(["bench", "completion"])
    problems = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(problems) == int(count)
    assert all("no where.nii.gz does not exist" in line for line in problems)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_seed_of_random_numbers_alone(command: str) -> None:
    """A reader knows the published code, not what it was to those who wrote this."""
    assert not re.search(r"\bthe seed\b", " ".join(build_parser(command).format_help().split()))


@pytest.mark.skipif(os.name != "posix", reason="reads the processor time of child processes")
def test_help_answers_in_a_moment() -> None:
    import resource

    seconds: list[float] = []
    while len(seconds) < 3 and min(seconds, default=1.0) >= 0.3:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert python("-m", "diffseglung", "segment", "--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 0.3


def test_the_table_lists_every_command_and_every_command_has_a_module(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    shown = capsys.readouterr().out
    assert end.value.code == 0
    for name, help in COMMANDS.items():
        assert f"  {name:12} {help}" in shown
        assert module_of(name).__file__
    assert "not a medical device" in shown


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_is_its_command(script: str) -> None:
    done = python(script, "--help")
    assert done.returncode == 0
    wanted = [option for action in build_parser(SCRIPTS[script])._actions for option in action.option_strings]
    assert all(option in done.stdout for option in wanted)
    assert {path.name for path in ROOT.glob("*.py") if "run_script(" in path.read_text()} == SCRIPTS.keys()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_known_in_both_spellings(command: str) -> None:
    parser = build_parser(command)
    for action in parser._actions:
        for option in (option for option in action.option_strings if option.startswith("--")):
            for twin in (option, *("--" + option[2:].replace(*pair) for pair in (("-", "_"), ("_", "-")))):
                assert parser._option_string_actions[parser._known(twin)] is action  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_conduct_and_a_first_sentence(command: str) -> None:
    parser = build_parser(command)
    options = {option for action in parser._actions for option in action.option_strings}
    assert {"-q", "--quiet", "-v", "--verbose", "--debug"} <= options
    assert parser.description
    assert parser.description.splitlines()[0].rstrip()[-1] in ".:,;)"


def test_abbreviations_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["segment", "--inp", "a", "--output", "b"])
    assert end.value.code == 2


@pytest.mark.parametrize("words", [["--nonsense"], ["segment"], ["segment", "-i", "a", "-o", "b", "--no-such", "1"]])
def test_a_wrong_command_line_ends_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("a", remedy="b"), 2),
        (GeometryError("a", remedy="b"), 2),
        (ConfigError("a", remedy="b"), 2),
        (CheckpointError("a", remedy="b"), 2),
        (TrainingError("a", remedy="b"), 1),
        (DiffSegLungError("a", remedy="b"), 1),
    ],
)
def test_an_error_is_one_sentence_a_remedy_and_a_code(fake, error, code, capsys) -> None:
    fake(error)
    assert main(["info"]) == code
    assert capsys.readouterr().err == "error: a\n  try: b\n"
    with pytest.raises(type(error)):
        main(["info", "--debug"])


def test_other_endings(fake, capsys) -> None:
    fake(OSError(28, "No space left on device"))
    assert main(["info"]) == 1
    assert "No space left" in capsys.readouterr().err
    fake(KeyboardInterrupt())
    assert main(["info"]) == 130
    fake(None, 3)
    assert main(["info"]) == 3
    fake(None)
    assert main(["info"]) == 0


def test_version_and_module_entry() -> None:
    done = python("-m", "diffseglung", "--version")
    assert done.stdout == f"diffseglung {diffseglung.__version__}\n"


def test_public_names_are_exactly_those_listed() -> None:
    assert set(diffseglung.__all__) == {*diffseglung._HOMES, "__version__"}
    for name in diffseglung.__all__:
        assert getattr(diffseglung, name) is not None
    with pytest.raises(AttributeError):
        _ = diffseglung.nothing


def test_progress_is_drawn_only_where_a_person_looks(capsys: pytest.CaptureFixture[str]) -> None:
    from diffseglung.cli.progress import bar

    for quiet in (True, False):
        with bar(quiet=quiet) as progress:
            assert list(progress(range(3), 3)) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


def test_a_study_without_a_clone_says_where_it_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "__file__", str(tmp_path / "site-packages" / "diffseglung" / "cli" / "__init__.py"))
    for command in cli.IN_STUDIES:
        assert main([command, "--help"]) == 2
        told = capsys.readouterr().err
        assert f"{command} is one of the studies, which are not part of the installed package" in told
        assert "clone of the repository" in told


def test_no_words_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "commands:" in capsys.readouterr().out


@pytest.mark.parametrize(("word", "remedy"), [("segmnt", "diffseglung segment"), ("xyzzy", "diffseglung --help")])
def test_an_unknown_command_names_the_nearest(word: str, remedy: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word, "-i", "ct.nii.gz"]) == 2
    error = capsys.readouterr().err
    assert word in error
    assert f"try: {remedy}" in error
