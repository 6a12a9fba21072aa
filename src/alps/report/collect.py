"""Runs become rows of a table, from the files they left."""

from collections.abc import Sequence
from pathlib import Path

from alps.report.table import Row
from alps.results import Result, RunFailed, RunFolder
from alps.settings import Run


def collect(runs: Sequence[Run]) -> list[Row]:
    """One row for each distinct run, in order, after the rows of their base models if evaluated."""
    rows = {}
    for run in runs:
        base = RunFolder(Path(run.output_dir) / "evals" / run.base_key)
        if base.result_path.exists():
            rows[run.base_key] = row(run.base_key, base)
    for run in runs:
        rows[run.key] = row(run.key, RunFolder(run.folder))
    return list(rows.values())


def row(key: str, folder: RunFolder) -> Row:
    """The row of a run that finished or failed."""
    status = folder.status()
    if folder.result_path.exists() and status["state"] != "failed":
        try:
            return Row(key=key, result=Result.read(folder.result_path))
        except RunFailed as error:
            return Row(key=key, failure=str(error))
    return Row(key=key, failure=status["reason"] or "it did not run")
