"""The files of a folder tree. Linked folders are followed; each folder is visited once, so loops end."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path

NOWHERE, AGAIN, SHUT = "lead nowhere", "lead to a folder that is searched anyway", "may not be opened"
NAMED = 3
"""Most paths that one sentence lists."""


@dataclass(frozen=True)
class Tree:
    """files: at or below `root`, by the path that leads to them, sorted.  left_out: other paths, with the reason.

    Names that begin with a dot are in neither.
    """

    root: Path
    files: list[Path]
    left_out: list[tuple[Path, str]]

    def called(self, name: str) -> list[Path]:
        """The files with this name."""
        return [path for path in self.files if path.name == name]

    def sentences(self) -> list[str]:
        """Sentences for the user on what was left out and why."""
        sentences = []
        for why in (NOWHERE, AGAIN, SHUT):
            names = [str(path.relative_to(self.root)) for path, reason in self.left_out if reason == why]
            if names:
                more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
                what = "folders" if why == SHUT else "links"
                sentences.append(f"skipped {what} that {why}: {', '.join(names[:NAMED])}{more}")
        return sentences


def look_below(root: Path) -> Tree:
    """List the files of a folder tree. A folder in the tree is visited at its own place before any link to it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (Path(folder) / "ct.nii.gz").touch()
    ...     (Path(folder) / "old.nii.gz").symlink_to("nowhere")
    ...     tree = look_below(Path(folder))
    >>> [path.name for path in tree.files], tree.sentences()
    (['ct.nii.gz'], ['skipped links that lead nowhere: old.nii.gz'])
    """
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
