"""A bar that counts training iterations: only where a person looks, and not with --quiet."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def wanted(quiet: bool) -> bool:
    """Whether anybody sees a bar."""
    return not quiet and sys.stderr.isatty()


@contextmanager
def counting(description: str, *, start: int, total: int, quiet: bool) -> Iterator[Callable[[int, str], None]]:
    """Yields show(done, note) that moves a bar with the time left."""
    if not wanted(quiet):
        yield lambda done, note: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
    columns += [TimeRemainingColumn(elapsed_when_finished=False), TextColumn("{task.fields[note]}")]
    shown = Progress(*columns, console=Console(stderr=True), redirect_stdout=sys.stdout.isatty())
    with shown as progress:
        task = progress.add_task(description, total=total, completed=start, note="")

        def show(done: int, note: str) -> None:
            progress.update(task, completed=done)
            if note:
                progress.update(task, note=note)

        yield show
