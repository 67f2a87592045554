"""The README and the pages: commands are the tested ones, paths and modules exist, old names are gone."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from diffseglung.labels import TISSUES
from diffseglung.output import FILES
from tests.cli.documented import ALL, OTHERS, pages, shell_lines
from tests.test_architecture import ORDER

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MOVED = (ROOT / "docs" / "reference" / "moved.md").read_text(encoding="utf-8")
PAGES_OF_PATHS = ("CONTRIBUTING.md", "docs/architecture.md", "docs/howto/paper-commands.md")
MADE = r"(out|results|checkpoints|bench)/|.*gipl\.py"
"""How paths begin that commands write, or the first changes of CONTRIBUTING.md."""
OLD_NAMES = (
    r"--caution|[Bb]oldness|even haze|[Ww]eak islands?|[Ee]ntrants?|make_scene"
    r"|diffseglung[./](?:preprocess|labelling|features|mixture|model|evaluation|benchmarks|cohorts|distillation)\b"
    r"|\b(?:preprocess|labelling|evaluation|benchmarks|cohorts)/"
)
"""Names before the layout of the paper; docs/reference/moved.md and the changelog alone may have them."""
DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").rglob("*.md")
)
NEW_NAMES = [
    path
    for path in DOCUMENTS
    if path.name in ("README.md", "CONTRIBUTING.md", "index.md", "architecture.md")
    or (path.parent.name in ("howto", "reference") and path.name != "moved.md")
]
"""Pages that no longer have old names."""


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 130


def test_every_command_of_the_readme_is_tested_and_every_tested_command_is_shown() -> None:
    on_pages = {line for lines in pages().values() for line in lines}
    tested = {shlex.join(shlex.split(line)) for line in ALL}
    shown = {line for line in shell_lines(README) if shlex.split(line)[0] not in OTHERS}
    assert shown <= tested | on_pages
    assert tested <= shown | on_pages


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


def paths_named(text: str) -> set[str]:
    """Files and folders that a page names in backquotes: those with a slash, a module's ending, or both."""
    named = re.findall(r"`([\w./-]+)`", re.sub(r"```.*?```", "", text, flags=re.S))
    return {name for name in named if re.fullmatch(r"[\w.-]*\w/[\w./-]*|[\w-]+\.py", name)}


@pytest.mark.parametrize("page", ["README.md", *PAGES_OF_PATHS])
def test_paths_that_a_page_names_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = paths_named(text)
    assert len(named) > 3
    places = (ROOT, ROOT / "diffseglung")
    missing = [name for name in sorted(named) if not any((place / name).exists() for place in places)]
    assert missing == [name for name in missing if re.match(MADE, name)], page


def test_a_path_that_is_not_there_is_seen() -> None:
    text = "`method/nowhere.py`, `train.py`, `docs/`, `--lung-mask`, `out/report.html`\n```\n`not/this.py`\n```"
    assert paths_named(text) == {"method/nowhere.py", "train.py", "docs/", "out/report.html"}


def test_the_first_changes_can_still_be_made() -> None:
    """Lines that an edit in CONTRIBUTING.md removes or stands beside are in the file; those that it adds are not."""
    edits = re.findall(r"```diff\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), flags=re.S)
    assert len(edits) > 3
    for edit in edits:
        name, *lines = edit.splitlines()
        there = (ROOT / name).read_text(encoding="utf-8").splitlines()
        for line in lines:
            known = line[1:] in there
            assert known or line.startswith("+"), f"{name} has no line {line[1:]}"
        assert not {line[1:] for line in lines if line.startswith("+") and line[1:].startswith("def ")} & set(there)


def test_what_moved_is_no_longer_there_and_where_it_went_is() -> None:
    rows = re.findall(r"^\| `([\w./]+\.py)` \| (.*) \|$", MOVED, flags=re.M)
    assert len(rows) > 100
    for old, new in rows:
        assert not (ROOT / old).exists(), old
        assert re.fullmatch(r"`[\w./]+\.py`", new), f"{old} went to {new}"
        assert (ROOT / new.strip("`")).is_file(), new


def test_the_architecture_page_states_the_order_that_is_enforced() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert " ".join(name for name in ORDER if name != "__main__") in " ".join(page.split())


@pytest.mark.parametrize("document", NEW_NAMES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_page_uses_an_old_name(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert re.findall(OLD_NAMES, text) == []


def test_research_use_is_said_before_anything_is_run() -> None:
    assert README.index("Not a medical device") < README.index("```")
