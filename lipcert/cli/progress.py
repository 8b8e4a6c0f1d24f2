"""The one progress display: a line on stderr for work over a second, nothing when stderr is not a terminal."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(first: str, enabled: bool = True) -> Iterator[Callable[[str, float | None], None]]:
    """Yields say(what, best upper bound so far)."""
    if not enabled or not sys.stderr.isatty():
        yield lambda what, upper: None
        return
    from rich.console import Console

    status = Console(stderr=True).status(first)
    timer = threading.Timer(1.0, status.start)
    timer.daemon = True
    timer.start()

    def say(what: str, upper: float | None) -> None:
        status.update(what if upper is None else f"{what}  (so far at most {upper:.6g})")

    try:
        yield say
    finally:
        timer.cancel()
        status.stop()


@contextmanager
def progress_bar(first: str, enabled: bool = True) -> Iterator[Callable[[str, int, int], None]]:
    """Yields say(what, done, of how many): the same with a bar where there is something to count."""
    if not enabled or not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(first, total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)
