"""Error messages and progress bars shared by the commands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager


def error_sentence(error: Exception) -> str:
    """Message of an exception on one line; for a file, with its name."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename} cannot be used ({error.strerror})"
    return " ".join(str(error).split())


@contextmanager
def exit_on_bad_input(
    errors: tuple[type[Exception], ...] = (ValueError, OSError),
) -> Iterator[None]:
    """Turns an exception about settings or files into its sentences and exit code 2."""
    try:
        yield
    except errors as error:
        from alps.config.errors import exit_with_errors

        exit_with_errors(getattr(error, "problems", [error_sentence(error)]))


def failure_message(error: BaseException) -> str:
    """Message of a failed run on one line; of an unexpected exception, with its class."""
    from alps.runs.result import RunFailed

    text = " ".join(str(error).split())
    return text if isinstance(error, RunFailed | ValueError) else f"{type(error).__name__}: {text}"


def debug_enabled(arguments: Sequence[str]) -> bool:
    """Whether `debug=true` asks for tracebacks."""
    return "debug=true" in [a.lower() for a in arguments]


@contextmanager
def exit_on_failure(name: str) -> Iterator[None]:
    """Turns an exception into one sentence about `name` and exit code 1."""
    try:
        yield
    except Exception as error:
        print(f"error: {name}: {failure_message(error)}", file=sys.stderr)
        sys.exit(1)


@contextmanager
def progress_bar(text: str, in_bytes: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal's stderr that appears with the first report."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    amount = [DownloadColumn(), TransferSpeedColumn()] if in_bytes else [MofNCompleteColumn()]
    columns = [TextColumn("{task.description}"), BarColumn(), *amount, TimeRemainingColumn()]
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        tasks = []

        def report(done: int, total: int) -> None:
            if not tasks:
                tasks.append(bar.add_task(text, total=total))
            bar.update(tasks[0], completed=done, total=total)

        yield report
