"""Every file of a tree once: linked folders are followed, loops end, and what is left out is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from diffseglung.io.tree import AGAIN, NOWHERE, look_below


def make(root: Path, *files: str) -> None:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(file)


def names(root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in look_below(root).files]


def test_what_lies_in_the_tree_is_met_there_and_not_through_a_link(tmp_path: Path) -> None:
    make(tmp_path, "z/f", "z/y/f")
    (tmp_path / "a").symlink_to("z")
    (tmp_path / "b").symlink_to("z/y")
    (tmp_path / "f").symlink_to("z/f")
    assert names(tmp_path) == ["f", "z/f", "z/y/f"]
    assert look_below(tmp_path).called("f") == look_below(tmp_path).files
    assert look_below(tmp_path).called("g") == []
    assert look_below(tmp_path).left_out == [(tmp_path / "a", AGAIN), (tmp_path / "b", AGAIN)]


def test_loops_and_links_to_themselves_end(tmp_path: Path) -> None:
    make(tmp_path, "in/p/f", "far/q/f")
    (tmp_path / "in" / "p" / "up").symlink_to("..")
    (tmp_path / "in" / "far").symlink_to(tmp_path / "far")
    (tmp_path / "far" / "q" / "back").symlink_to(tmp_path / "in")
    (tmp_path / "far" / "self").symlink_to("self")
    tree = look_below(tmp_path / "in")
    assert [str(path.relative_to(tmp_path / "in")) for path in tree.files] == ["far/q/f", "p/f"]
    assert sorted(str(path.relative_to(tmp_path / "in")) for path, _ in tree.left_out) == [
        "far/q/back", "far/self", "p/up"
    ]  # fmt: skip


def test_folders_that_many_links_lead_to_are_searched_once(tmp_path: Path) -> None:
    for i in range(30):  # 2^30 ways to the last one
        make(tmp_path, f"far/{i}/f")
        for side in "ab":
            (tmp_path / "far" / f"{i}" / side).symlink_to(tmp_path / "far" / f"{i + 1}")
    make(tmp_path, "far/30/f")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x").symlink_to(tmp_path / "far" / "0")
    assert len(look_below(tmp_path / "in").files) == 31


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    make(tmp_path, ".git/annex/key", ".f", "g")
    (tmp_path / ".lock").symlink_to("nowhere")
    assert names(tmp_path) == ["g"]
    assert look_below(tmp_path).left_out == []
    assert names(tmp_path / ".git") == ["annex/key"]


def test_sentences_name_a_few(tmp_path: Path) -> None:
    for name in "abcde":
        (tmp_path / name).symlink_to("nowhere")
    tree = look_below(tmp_path)
    assert {why for _, why in tree.left_out} == {NOWHERE}
    assert tree.sentences() == ["skipped links that lead nowhere: a, b, c and 2 more"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="everything may be opened")
def test_folders_that_may_not_be_opened_are_told(tmp_path: Path) -> None:
    make(tmp_path, "a/f", "b/f")
    (tmp_path / "a").chmod(0)
    try:
        assert look_below(tmp_path).sentences() == ["skipped folders that may not be opened: a"]
    finally:
        (tmp_path / "a").chmod(0o700)
