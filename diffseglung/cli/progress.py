"""Progress bars, on a terminal and without --quiet."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from diffseglung.cli.terminal import harmless

T = TypeVar("T")
Track = Callable[[Iterable[T], int], Iterable[T]]


def wanted(quiet: bool) -> bool:
    """Whether a bar is shown."""
    return not quiet and sys.stderr.isatty()


@contextmanager
def bar(description: str = "working", *, quiet: bool = False) -> Iterator[Track]:  # type: ignore[type-arg]
    """Yields a function (iterable, total) -> iterable that shows a bar with the remaining time while it is consumed.

    Before and after, and if nothing is counted, the bar pulses beside the elapsed time.
    """
    if not wanted(quiet):
        yield lambda items, total: items
        return
    with _drawn(transient=True) as progress:
        task = progress.add_task(harmless(description), total=None, note="")

        def track(items: Iterable[T], total: int) -> Iterable[T]:
            progress.reset(task, total=total)
            yield from progress.track(items, total=total, task_id=task)
            progress.update(task, total=None)

        yield track


@contextmanager
def counting(description: str, *, start: int, total: int, quiet: bool) -> Iterator[Callable[[int, str], None]]:
    """Yields show(done, note), which updates a bar with the remaining time; the bar stays on the screen at the end."""
    if not wanted(quiet):
        yield lambda done, note: None
        return
    with _drawn(transient=False) as progress:
        task = progress.add_task(harmless(description), total=total, completed=start, note="")

        def show(done: int, note: str) -> None:
            progress.update(task, completed=done)
            if note:
                progress.update(task, note=harmless(note))

        yield show


def _drawn(*, transient: bool) -> Any:
    """A bar on standard error; text printed to a file or pipe still goes there."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=Console(stderr=True),
        transient=transient,
        redirect_stdout=sys.stdout.isatty(),
    )
