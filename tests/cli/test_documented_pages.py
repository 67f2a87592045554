"""Every command line and every Python name on the pages of docs/: they parse, and at toy size the commands run.

A page's commands run in its order in a folder of their own, as somebody who follows the page would run them.
"""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import diffseglung
from diffseglung.cli import build_parser, run_command
from tests.cli.documented import ALL, DOCS, OTHERS, PARSED_ONLY, pages
from tests.cli.test_documented_commands import SMALL, moved, place, split  # noqa: F401  (place is a fixture)

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore:\\s*Port 8787 is already in use",
)
PAGES = pages()
LINES = sorted({line for lines in PAGES.values() for line in lines if shlex.split(line)[0] not in OTHERS})
AGAIN = ("phantom",)
"""Commands whose lines run here although test_documented_commands.py runs the same: others need what they make."""
SMALL_HERE = SMALL | {
    "benchmark": "--methods hu_bands_median --workers 1 --no-surfaces",
    "phantom": "-n 1 --size small",
}
NEEDS_PLACES = ("demo/", "ct_", "studies", "study.zip", "one", "fibrosis", "healthy", "soft_chest", "sharp_chest")
"""How paths begin that pages show beside those of `ALL`."""


def plain(lines: set[str] | list[str]) -> set[str]:
    return {shlex.join(shlex.split(line)) for line in lines}


def to_run(lines: list[str]) -> list[str]:
    """What of a page is run here."""
    left_out = plain(PARSED_ONLY)
    done = {line for line in plain(ALL) if shlex.split(line)[1] not in AGAIN}
    return [line for line in lines if shlex.split(line)[0] not in OTHERS and line not in left_out | done]


@pytest.mark.parametrize("line", LINES)
def test_it_parses(line: str) -> None:
    command, words = split(line)
    assert build_parser(command).parse_args(words).run


def test_what_is_not_run_is_still_shown() -> None:
    shown = set(LINES)
    assert plain(PARSED_ONLY) <= shown | plain(ALL)


@pytest.fixture
def rich_place(place: Path) -> Path:  # noqa: F811
    """The toy folder, and in it all else that pages speak of: a DICOM series, a ZIP archive, two kernels, masks."""
    shutil.make_archive(str(place / "study"), "zip", place / "dicom_folder")
    (place / "demo").mkdir()
    (place / "studies_masks").mkdir()
    for name in ("ct_soft", "ct_sharp", "demo/lidc_1011", "studies_masks/one"):
        shutil.copy(place / "ct.nii.gz", place / f"{name}.nii.gz")
    shutil.copy(place / "lungs.nii.gz", place / "studies_masks" / "one_lung.nii.gz")
    return place


def run_here(line: str, folder: Path) -> int:
    """One documented command inside the toy folder, made small."""
    command, words = split(line)
    small = shlex.split(SMALL_HERE.get(command, ""))
    if command == "phantom" and "--background" in words:
        small = ["-n", "1"]
    options = {name for action in build_parser(command)._actions for name in action.option_strings}
    quiet = ["-q"] if "-q" in options else []
    words = [word if word == "dicom_folder" else moved([word], folder)[0] for word in words]
    paths = [
        str(folder / word) if word.startswith((*NEEDS_PLACES, "dicom_folder")) and not word.startswith("fibrosis_")
        else word for word in words
    ]  # fmt: skip
    return run_command(command, [*paths, *small, *quiet])


@pytest.mark.parametrize("page", [page for page, lines in PAGES.items() if to_run(lines)])
def test_the_commands_of_a_page_run_in_order(page: str, rich_place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line in to_run(PAGES[page]):
        assert run_here(line, rich_place) == 0, f"{page}: {line}\n{capsys.readouterr().err}"


def python_blocks() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(DOCS.rglob("*.md")):
        for block in re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.S):
            yield path.name, ast.parse(block)


def test_python_on_the_pages_names_what_exists() -> None:
    blocks = list(python_blocks())
    assert len(blocks) > 3
    for page, tree in blocks:
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("diffseglung"):
                module = importlib.import_module(str(node.module))
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == [], page
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "diffseglung":
                assert hasattr(diffseglung, node.attr), f"{page}: diffseglung.{node.attr}"
