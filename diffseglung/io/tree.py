"""Files of a folder tree. Linked folders are followed, and each folder is looked into once, so that loops end."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path

NOWHERE, AGAIN, SHUT = "lead nowhere", "lead to a folder that is searched anyway", "may not be opened"
NAMED = 3
"""How many of those that were left out a sentence names."""


@dataclass(frozen=True)
class Tree:
    """files: at or below `root`, by the way that leads to them, sorted.  left_out: what else was met, with its reason.

    What begins with a dot is neither.
    """

    root: Path
    files: list[Path]
    left_out: list[tuple[Path, str]]

    def called(self, name: str) -> list[Path]:
        """The files of this name."""
        return [path for path in self.files if path.name == name]

    def sentences(self) -> list[str]:
        """What was left out and why, for the user."""
        told = []
        for why in (NOWHERE, AGAIN, SHUT):
            names = [str(path.relative_to(self.root)) for path, reason in self.left_out if reason == why]
            if names:
                more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
                what = "folders" if why == SHUT else "links"
                told.append(f"left out are {what} that {why}: {', '.join(names[:NAMED])}{more}")
        return told


def look_below(root: Path) -> Tree:
    """The tree of a folder. A folder that lies in it is met there, not through a link to it."""
    own, linked = deque([root]), deque[Path]()
    seen: set[tuple[int, int]] = set()
    files: list[Path] = []
    left_out: list[tuple[Path, str]] = []
    while own or linked:
        folder = own.popleft() if own else linked.popleft()
        try:
            state = folder.stat()
            if (state.st_dev, state.st_ino) in seen:
                left_out.append((folder, AGAIN))
                continue
            seen.add((state.st_dev, state.st_ino))
            for path in sorted(path for path in folder.iterdir() if not path.name.startswith(".")):
                if path.is_dir():
                    (linked if path.is_symlink() else own).append(path)
                elif path.is_file():
                    files.append(path)
                elif path.is_symlink():
                    left_out.append((path, NOWHERE))
        except OSError:
            left_out.append((folder, SHUT))
    return Tree(root, sorted(files), left_out)
