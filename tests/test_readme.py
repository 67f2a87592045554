"""The README tells the truth: its commands are the tested ones, its files exist, its names are real."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from diffseglung.labels import TISSUES
from diffseglung.output import FILES
from tests.cli.documented import ALL, shell_lines

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").rglob("*.md")
)


def test_every_command_of_the_readme_is_one_that_is_tested() -> None:
    known = {shlex.join(shlex.split(line)) for line in ALL}
    shown = [line for line in shell_lines(README) if not line.startswith("make ")]
    assert [line for line in shown if line not in known] == []
    assert [line for line in known if line not in shown] == []


def test_make_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M))
    for document in DOCUMENTS:
        assert set(re.findall(r"`?make ([a-z]+)`", document.read_text(encoding="utf-8"))) <= targets


def test_the_tree_shows_every_output_and_every_id() -> None:
    assert all(name in README for name in FILES)
    ids = [*(f"{tissue.id} {tissue.name if tissue.name != 'ggo' else 'GGO'}" for tissue in TISSUES), "0 background"]
    assert all(text in README for text in ids)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_and_pictures_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_the_file_table_names_modules_that_exist() -> None:
    for row in re.findall(r"^\| .* \| (.*) \|$", README, flags=re.M):
        for name in re.findall(r"[\w/]+\.py|\b\w+/(?=[,:\s]|$)", row):
            found = (ROOT / "diffseglung" / name).exists() or any((ROOT / "diffseglung").glob(f"*/{name}"))
            assert found, f"the README's table names {name}"


def test_research_use_is_said_before_anything_is_run() -> None:
    assert README.index("Not a medical device") < README.index("```")
