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
    """A function (iterable, total) -> iterable that shows a bar with time left while it is consumed."""
    if quiet or not sys.stderr.isatty():
        yield lambda items, total: items
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield lambda items, total: progress.track(items, total=total, description=description)
