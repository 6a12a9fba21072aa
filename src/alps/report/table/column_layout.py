"""Which columns a table has: the paper's, or one for each benchmark of the runs."""

from __future__ import annotations

from collections.abc import Sequence

from alps.report.table.columns import (
    AverageColumn,
    ChangeColumn,
    Column,
    HoursColumn,
    LossColumn,
    ScoreColumn,
)
from alps.report.table.paper import PaperNumber, has_row_per_dataset
from alps.settings.interfaces import Benchmark
from alps.settings.run import Run

AVERAGE, CHANGE = "Avg.", "Δ w/ full"

HOURS = HoursColumn(label="train hours")
"""For runs without benchmarks."""

OF_METRIC: dict[str, type[Column]] = {"change": ChangeColumn, "train_hours": HoursColumn}
"""Metric in `paper.csv` -> its column; other metrics are scores."""


def column_label(cell: PaperNumber) -> str:
    """Heading of a printed number's column; all changes share one."""
    return CHANGE if cell.metric == "change" else cell.column


def paper_columns(paper: Sequence[PaperNumber]) -> tuple[Column, ...]:
    """The columns of a printed table."""
    columns: dict[str, Column] = {}
    for cell in paper:
        label = column_label(cell)
        if label in columns:
            continue
        kind = OF_METRIC.get(cell.metric, ScoreColumn)
        if cell.metric == "mean" and label.startswith(AVERAGE):
            kind = AverageColumn
        if kind is not ScoreColumn:
            columns[label] = kind(label=label)
            continue
        data = {c.data for c in paper if column_label(c) == label}
        only = next(iter(data)) if len(data) == 1 else ()
        columns[label] = ScoreColumn(
            label=label, benchmarks=cell.benchmarks, data=only if len(only) == 1 else ()
        )
    return tuple(columns.values())


def benchmark_columns(runs: Sequence[Run], paper: Sequence[PaperNumber]) -> list[Column]:
    """A column for each benchmark of each dataset, losses last."""
    if has_row_per_dataset(paper):
        return _columns_of(runs, per_row=True)
    scores = [c for c in paper_columns(paper) if isinstance(c, ScoreColumn)]
    if paper and not any(c.data for c in scores):
        asked = [b for b in _benchmarks(runs) if not is_loss(b)]
        return _with_average([_off_task_column(b, runs) for b in asked])
    return _with_average(_columns_of(runs))


def loss_columns(runs: Sequence[Run], paper: Sequence[PaperNumber]) -> list[Column]:
    """Columns of held-out losses, which the paper's tables and averages lack."""
    columns = _columns_of(runs, per_row=has_row_per_dataset(paper))
    return [c for c in columns if isinstance(c, LossColumn)]


def _columns_of(runs: Sequence[Run], per_row: bool = False) -> list[Column]:
    """A column for each benchmark of each dataset; of all data if each row has one dataset."""
    if per_row:
        return [_benchmark_column(b) for b in _benchmarks(runs)]
    data = dict.fromkeys(r.data.name for r in runs)
    own = [(d, b) for d in data for b in _benchmarks([r for r in runs if r.data.name == d])]
    names = [b.name for _, b in own]
    return [_benchmark_column(b, d, suffix=names.count(b.name) > 1) for d, b in own]


def _with_average(columns: Sequence[Column]) -> list[Column]:
    """Scores, their average if there are several, then losses."""
    scores = [c for c in columns if isinstance(c, ScoreColumn)]
    average = [AverageColumn(label=AVERAGE)] if len(scores) > 1 else []
    return [*scores, *average, *(c for c in columns if isinstance(c, LossColumn))]


def _benchmarks(runs: Sequence[Run]) -> list[Benchmark]:
    """The benchmarks of all runs by name; no loss for data that hold out no examples."""
    found: dict[str, Benchmark] = {}
    for run in runs:
        nothing_held_out = getattr(run.data, "test_fraction", None) == 0
        for benchmark in run.evals.benchmarks:
            if not (nothing_held_out and is_loss(benchmark)):
                found.setdefault(benchmark.name, benchmark)
    return list(found.values())


def is_loss(benchmark: Benchmark) -> bool:
    """Whether it measures a loss and generates nothing."""
    return benchmark.protocol == "answer_tokens"


def _benchmark_column(benchmark: Benchmark, data: str = "", suffix: bool = False) -> Column:
    loss = is_loss(benchmark)
    return (LossColumn if loss else ScoreColumn)(
        label=benchmark.name + " loss" * loss + f" ({data})" * suffix,
        benchmarks=(benchmark.name,),
        data=(data,) if data else (),
    )


def _off_task_column(benchmark: Benchmark, runs: Sequence[Run]) -> Column:
    """Scores after training on the other tasks, where there are some: what is forgotten."""
    data = {r.data.name: None for r in runs if r.data.task != benchmark.task}
    label = f"{benchmark.name} (after other tasks)" if data else benchmark.name
    return ScoreColumn(label=label, benchmarks=(benchmark.name,), data=tuple(data))


def add_change_column(columns: Sequence[Column]) -> tuple[Column, ...]:
    """Adds a column of changes right of the average, or of the only score."""
    if any(isinstance(c, ChangeColumn) for c in columns):
        return tuple(columns)
    scores = [c for c in columns if isinstance(c, ScoreColumn)]
    averages = [c for c in columns if isinstance(c, AverageColumn)]
    headline = averages or (scores if len(scores) == 1 else [])
    if not headline:
        return tuple(columns)
    place = list(columns).index(headline[0]) + 1
    return (*columns[:place], ChangeColumn(label=CHANGE), *columns[place:])
