"""Progress bars: on a terminal and unless quiet; nothing else ever draws one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
Track = Callable[[Iterable[T], int], Iterable[T]]


@contextmanager
def bar(description: str = "working", *, quiet: bool = False) -> Iterator[Track]:  # type: ignore[type-arg]
    """A function (iterable, total) -> iterable that shows a bar with time left while it is consumed.

    Before and after, and where nothing is counted, the bar moves to and fro beside the time gone by.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda items, total: items
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

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(
        *columns,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
    ) as progress:
        task = progress.add_task(description, total=None)

        def track(items: Iterable[T], total: int) -> Iterable[T]:
            progress.reset(task, total=total)
            yield from progress.track(items, total=total, task_id=task)
            progress.update(task, total=None)

        yield track
