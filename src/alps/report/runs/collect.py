"""The rows of a table of runs, from the files of their folders."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from alps.report.run_kind import identifying_settings
from alps.report.runs.table import RunRow
from alps.runs.completion import base_result
from alps.runs.folder import RunFolder
from alps.runs.result import Result, RunFailed
from alps.settings.run import Run


def collect(runs: Sequence[Run]) -> list[RunRow]:
    """The rows of the base models, where evaluated, and a row for each distinct run, in order."""
    rows = {}
    for run in runs:
        if run.base_data_key not in rows and (found := _base_row(run)):
            rows[run.base_data_key] = found
    for run in runs:
        rows[run.key] = row(run.key, RunFolder(run.folder), identifying_settings(run))
    return list(rows.values())


def _base_row(run: Run) -> RunRow | None:
    """The row of a run's base model, if a benchmark of the run or of its data was evaluated."""
    names = {"model": run.model.name, "data": run.data.name}
    try:
        result = base_result(run)
    except RunFailed as error:
        return RunRow(key=run.base_key, failure=str(error), settings=names)
    asked = {benchmark.name for benchmark in run.evals.benchmarks}
    own = RunFolder(run.base_data_folder).result_path.exists()
    if result is None or not (own or asked & set(result.evals)):
        return None
    evals = {name: scores for name, scores in result.evals.items() if own or name in asked}
    return RunRow(key=run.base_key, result=replace(result, evals=evals), settings=names)


def row(key: str, folder: RunFolder, settings: Mapping[str, Any] | None = None) -> RunRow:
    """The row of a finished or failed run."""
    settings, status = settings or {}, folder.status()
    if folder.result_path.exists() and status["state"] != "failed":
        try:
            return RunRow(key=key, result=Result.read(folder.result_path), settings=settings)
        except RunFailed as error:
            return RunRow(key=key, failure=str(error), settings=settings)
    failure = status["reason"] or "it did not run"
    if status["state"] == "running":
        failure = "another process is running it"
    return RunRow(key=key, failure=failure, settings=settings)
