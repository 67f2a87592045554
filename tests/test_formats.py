"""Files of earlier versions are read as what they were written as."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diffseglung import __version__
from tests.kept_formats import FOLDER, contents

KEPT = sorted(path for path in FOLDER.iterdir() if path.is_dir())


@pytest.mark.parametrize("folder", KEPT, ids=[path.name for path in KEPT])
def test_what_was_written_once_is_read_ever_after(folder: Path) -> None:
    assert contents(folder) == json.loads((folder / "contents.json").read_text(encoding="utf-8"))


def test_this_version_s_own_files_are_among_the_kept() -> None:
    assert (FOLDER / __version__).is_dir(), f"python -m tests.kept_formats {__version__}"
