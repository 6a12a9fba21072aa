"""`alps runs`: what lies in the outputs folder, and in which state."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from alps.runs.folder import RunFolder, list_runs


def print_runs(output_dir: Path, filters: Sequence[str]) -> None:
    """Prints the runs that match every filter: a word anywhere in the line, or name=value."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    lines = [line for line in map(describe, list_runs(output_dir)) if matches(line, filters)]
    if not lines:
        wanted = f" match {' '.join(filters)}" if filters else ""
        print(f"no runs in {output_dir / 'runs'}{wanted}")
        return
    grid = Table(show_edge=False, pad_edge=False)
    for name in lines[0]:
        grid.add_column(name, overflow="fold")
    for line in lines:
        grid.add_row(*map(Text, line.values()))
    console = Console()
    (console if console.is_terminal else Console(width=200)).print(grid)


def describe(folder: RunFolder) -> dict[str, str]:
    """Settings and state of a run, as texts."""
    status = folder.status()
    try:
        run = folder.read_run()
    except Exception as error:  # a folder that somebody edited is shown, not hidden
        unknown = dict.fromkeys(("method", *_SETTINGS), "—")
        state = {"state": "unreadable", "reason": str(error)}
        return {"run": folder.path.name, **unknown, **state}
    settings = {
        "method": run.method.name,
        "ratio": getattr(run.method, "ratio", "—"),
        "scope": getattr(run.method, "scope", "—"),
        "model": run.model.name,
        "data": run.data.name,
        "optim": run.optim.name,
        "seed": run.seed,
    }
    state = {"state": status["state"], "reason": status["reason"] or ""}
    return {"run": folder.path.name, **{k: str(v) for k, v in {**settings, **state}.items()}}


_SETTINGS = ("ratio", "scope", "model", "data", "optim", "seed")


def matches(line: dict[str, str], filters: Sequence[str]) -> bool:
    """Whether a line satisfies every filter."""
    for wanted in filters:
        name, equals, value = wanted.partition("=")
        if equals and name in line:
            if line[name] != value:
                return False
        elif wanted not in " ".join(line.values()):
            return False
    return True
