"""Progress of long tasks: a bar on a terminal, log lines elsewhere; none for short tasks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

ProgressMode = Literal["auto", "lines", "off"]
SECONDS_OF_SILENCE = 3.0
SECONDS_BETWEEN_LINES = 15.0

log = logging.getLogger(__name__)


@contextmanager
def track_progress(
    title: str, total: int | None, show: ProgressMode, unit: str = "rows", initial: int = 0
) -> Iterator[Callable[[int], None]]:
    """Yields a function that reports the number of units done; shown after a few seconds.

    Args:
        title: Name of the task.
        total: Number of units, or None if unknown.
        show: A bar on a terminal and lines elsewhere, lines only, or nothing.
        unit: Name of the units.
        initial: Units done earlier, excluded from the speed.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    began = printed = time.monotonic()
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    on_terminal = show == "auto" and console.is_terminal
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not on_terminal) as bar:
        tasks = []

        def report(done: int) -> None:
            nonlocal printed
            now = time.monotonic()
            if show == "off" or now - began < SECONDS_OF_SILENCE:
                return
            if on_terminal:
                tasks[:] = tasks or [bar.add_task(title, total=total, completed=initial)]
                bar.update(tasks[0], completed=done)
            elif now - printed >= SECONDS_BETWEEN_LINES:
                printed = now
                pace = (now - began) / max(1, done - initial)
                share, left = "", ""
                if total:
                    share, left = f" of {total}", f", {pace * (total - done):.0f} s left"
                log.info("%s: %d%s %s%s", title, done, share, unit, left)

        yield report
