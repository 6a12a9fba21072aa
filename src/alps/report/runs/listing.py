"""`alps runs`: the runs in the outputs folder and their states."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from alps.report.style import DASH
from alps.report.text_tables import terminal, terminal_table
from alps.runs.folder import RunFolder, list_runs
from alps.settings.run import Run


def print_runs(output_dir: Path, filters: Sequence[str]) -> None:
    """Prints the runs that match every filter: a word anywhere in the line, or name=value."""
    lines = [line for line in map(describe, list_runs(output_dir)) if matches(line, filters)]
    if not lines:
        wanted = f" match {' '.join(filters)}" if filters else ""
        print(f"no runs in {output_dir / 'runs'}{wanted}")
        return
    terminal(200).print(terminal_table(lines[0], lines[0], [[*line.values()] for line in lines]))


def describe(folder: RunFolder) -> dict[str, str]:
    """Settings and state of a run as texts, by heading."""
    status = folder.status()
    try:
        run = folder.read_run()
    except Exception as error:  # damaged folders are listed, too
        unknown = dict.fromkeys(SETTINGS, DASH)
        state = {"state": "unreadable", "reason": str(error)}
        return {"run": folder.path.name, **unknown, **state}
    state = {"state": status["state"], "reason": status["reason"] or ""}
    return {"run": folder.path.name, **describe_settings(run), **state}


def describe_settings(run: Run) -> dict[str, str]:
    """Settings of a run as texts, by heading."""
    settings = {
        "method": run.method.name,
        "ratio": getattr(run.method, "ratio", DASH),
        "scope": getattr(run.method, "scope", DASH),
        "model": run.model.name,
        "data": run.data.name,
        "optim": run.optim.name,
        "seed": run.seed,
    }
    return {name: str(value) for name, value in settings.items()}


SETTINGS = ("method", "ratio", "scope", "model", "data", "optim", "seed")


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
