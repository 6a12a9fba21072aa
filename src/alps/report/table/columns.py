"""The columns of a table: the paper's, or one for each benchmark of the runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from alps.report.table.paper import Printed, data_in_rows
from alps.settings.interfaces import Benchmark
from alps.settings.run import Run

AVERAGE, CHANGE = "Avg.", "Δ w/ full"


@dataclass(frozen=True, kw_only=True)
class Column:
    """What stands in a column.

    Attributes:
        label: Its head.
        kind: `score` of one or several benchmarks in percent, `loss` in nats, `hours` of training,
            `average` of the scores (of those of its data, if it has some), or `change` of that
            against the row w/ full.
        benchmarks: Whose headline numbers are averaged.
        data: What the examined models were trained on; nothing for all data of the row.
    """

    label: str
    kind: Literal["score", "loss", "hours", "average", "change"]
    benchmarks: tuple[str, ...] = ()
    data: tuple[str, ...] = ()

    @property
    def lower_is_better(self) -> bool:
        """Whether the smallest number is the best."""
        return self.kind in ("loss", "hours")


HOURS = Column(label="train hours", kind="hours")
"""For runs without benchmarks."""


def column_label(cell: Printed) -> str:
    """The head of a printed number's column; all changes have one."""
    return CHANGE if cell.metric == "change" else cell.column


def papers_columns(paper: Sequence[Printed]) -> tuple[Column, ...]:
    """The columns of a printed table."""
    columns: dict[str, Column] = {}
    for cell in paper:
        label = column_label(cell)
        if label in columns:
            continue
        own = {c.data for c in paper if column_label(c) == label}
        data = next(iter(own)) if len(own) == 1 else ()
        kind = {"change": "change", "train_hours": "hours"}.get(cell.metric, "score")
        if cell.metric == "mean" and label.startswith(AVERAGE):
            kind = "average"
        columns[label] = Column(
            label=label,
            kind=kind,  # pyright: ignore[reportArgumentType]
            benchmarks=cell.benchmarks if kind == "score" else (),
            data=data if len(data) == 1 and kind == "score" else (),
        )
    return tuple(columns.values())


def benchmark_columns(runs: Sequence[Run], paper: Sequence[Printed]) -> list[Column]:
    """A column for each benchmark of each dataset, losses last."""
    if data_in_rows(paper):
        return _columns_of(runs, in_rows=True)
    if paper and all(not c.data for c in papers_columns(paper) if c.kind == "score"):
        return _with_average(
            [_off_task_column(b, runs) for b in _benchmarks(runs) if not is_loss(b)]
        )
    return _with_average(_columns_of(runs))


def loss_columns(runs: Sequence[Run], paper: Sequence[Printed]) -> list[Column]:
    """The losses among the benchmarks of each dataset: the paper and averages have none."""
    return [c for c in _columns_of(runs, data_in_rows(paper)) if c.kind == "loss"]


def _columns_of(runs: Sequence[Run], in_rows: bool = False) -> list[Column]:
    """A column for each benchmark, where rows are of one dataset, or for each of each dataset."""
    if in_rows:
        return [_benchmark_column(b) for b in _benchmarks(runs)]
    data = dict.fromkeys(r.data.name for r in runs)
    own = [(d, b) for d in data for b in _benchmarks([r for r in runs if r.data.name == d])]
    names = [b.name for _, b in own]
    return [_benchmark_column(b, d, tell=names.count(b.name) > 1) for d, b in own]


def _with_average(columns: Sequence[Column]) -> list[Column]:
    """Scores, the average of several, and then the losses."""
    scores = [c for c in columns if c.kind == "score"]
    average = [Column(label=AVERAGE, kind="average")] if len(scores) > 1 else []
    return [*scores, *average, *(c for c in columns if c.kind == "loss")]


def _benchmarks(runs: Sequence[Run]) -> list[Benchmark]:
    """Those of any run, each name once, as the first run has it; no loss of no held-out rows."""
    found: dict[str, Benchmark] = {}
    for run in runs:
        nothing = getattr(run.data, "test_fraction", None) == 0
        for benchmark in run.evals.benchmarks:
            if not (nothing and is_loss(benchmark)):
                found.setdefault(benchmark.name, benchmark)
    return list(found.values())


def is_loss(benchmark: Benchmark) -> bool:
    """Whether it measures a loss and asks nothing."""
    return benchmark.protocol == "answer_tokens"


def _benchmark_column(benchmark: Benchmark, data: str = "", tell: bool = False) -> Column:
    loss = is_loss(benchmark)
    return Column(
        label=benchmark.name + " loss" * loss + f" ({data})" * tell,
        kind="loss" if loss else "score",
        benchmarks=(benchmark.name,),
        data=(data,) if data else (),
    )


def _off_task_column(benchmark: Benchmark, runs: Sequence[Run]) -> Column:
    """What trainings forget of a task: models of the other tasks, where there are some."""
    data = {r.data.name: None for r in runs if r.data.task != benchmark.task}
    label = f"{benchmark.name} (after other tasks)" if data else benchmark.name
    return Column(label=label, kind="score", benchmarks=(benchmark.name,), data=tuple(data))


def with_change(columns: Sequence[Column]) -> tuple[Column, ...]:
    """With a column of changes right of the average, or of the only score."""
    scores = [c for c in columns if c.kind == "score"]
    basis = [c for c in columns if c.kind == "average"] or (scores if len(scores) == 1 else [])
    if not basis or any(c.kind == "change" for c in columns):
        return tuple(columns)
    place = list(columns).index(basis[0]) + 1
    return (*columns[:place], Column(label=CHANGE, kind="change"), *columns[place:])
