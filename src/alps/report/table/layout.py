"""The shape of a table: its rows and columns, as the paper has them or as the runs suggest.

Where all runs are of the paper's models and data, the table is the paper's, label for label, and
beside it the held-out losses, which the paper does not have.
Elsewhere (`scale=mini`, another model) it has the paper's rows for each model of the runs, and a
column for each benchmark of each dataset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from alps.report.run_kind import BASE, Kind, apart, kind_of, task_data, variants
from alps.report.table.columns import (
    HOURS,
    Column,
    benchmark_columns,
    column_label,
    loss_columns,
    papers_columns,
    with_change,
)
from alps.report.table.paper import Printed, by_row, data_in_rows
from alps.settings.run import Run

TRANSFER = "heads from other data"


@dataclass(frozen=True, kw_only=True)
class Row:
    """What stands in a row.

    Attributes:
        label: Its name, that of the model first.
        kind: What was trained.
        block: Rows of one block are compared with each other.
        variant: Further settings that tell it from other rows of its kind.
        runs: Data -> its runs, one for each seed; for `base` the runs of that model.
    """

    label: str
    kind: Kind
    block: str
    variant: str = ""
    runs: Mapping[str, tuple[Run, ...]] = field(default_factory=dict)

    def columns_data(self, column: Column) -> tuple[str, ...]:
        """Data whose runs count in a column; a model as it is answers alike whatever the data."""
        if self.kind.method == BASE and len(column.data) != 1:
            return tuple(self.runs)[:1]
        return column.data or tuple(self.runs)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A table before any number is in it.

    Attributes:
        rows: In order; rows of a model stand together.
        columns: In order.
        printed: Row and column -> the paper's number, where this is the paper's table.
        absent: Labels of the paper's rows that no run of the grid belongs to.
    """

    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    printed: Mapping[tuple[str, str], float] = field(default_factory=dict)
    absent: tuple[str, ...] = ()


def lay_out(runs: Sequence[Run], paper: Sequence[Printed], base: bool = False) -> Layout:
    """The table of some runs.

    Args:
        runs: Of the experiment's grid, in its order.
        paper: What the paper printed, or nothing.
        base: Whether models as they are have rows where the paper is silent about it.

    Raises:
        ValueError: If several runs belong in one place of a row; one sentence.
    """
    layout = _papers(runs, paper) if is_papers(runs, paper) else _similar(runs, paper, base)
    return replace(layout, columns=tuple(c for c in layout.columns if _has_numbers(c, layout)))


def is_papers(runs: Sequence[Run], paper: Sequence[Printed]) -> bool:
    """Whether the paper trained these models on these data."""
    models = {p.model for p in paper}
    data = {d for p in paper for d in p.data}
    known = (r.model.name in models and (not data or r.data.name in data) for r in runs)
    return bool(paper) and all(known)


def _has_numbers(column: Column, layout: Layout) -> bool:
    """Whether some row has a number of the paper in a column, or gets one from its runs."""
    rows = layout.rows
    if any((row.label, column.label) in layout.printed for row in rows):
        return True
    if column.kind == "change":
        full = [row for row in rows if row.kind.method == "full"]
        return any(row.block == f.block and row is not f for f in full for row in rows)
    scores = [c for c in layout.columns if c.kind == "score"]
    parts = scores if column.kind == "average" else [column]
    return any(all(row.runs.keys() >= set(row.columns_data(c)) for c in parts) for row in rows)


def _papers(runs: Sequence[Run], paper: Sequence[Printed]) -> Layout:
    rows: list[Row] = []
    absent, claimed, models = [], set(), {r.model.name for r in runs}
    for label, cells in by_row(paper).items():
        found = _runs_of(cells, runs)
        claimed |= {r.key for r in found}
        kind = _kind(cells[0])
        own = {d for c in cells for d in c.data}
        block = f"{kind.model} {min(own)}" if data_in_rows(paper) else kind.model
        if kind.method == BASE and kind.model in models:
            found = [r for r in runs if r.model.name == kind.model]
        if found:
            rows += _rows(label, kind, block, found)
        elif kind.model in models:
            absent.append(label)
    rest = [r for r in runs if r.key not in claimed]
    return Layout(
        rows=tuple(_together([*rows, *_unlabelled(rest, data_in_rows(paper))])),
        columns=(*with_change(papers_columns(paper)), *loss_columns(runs, paper)),
        printed={(p.row, column_label(p)): p.value for p in paper},
        absent=tuple(absent),
    )


def _similar(runs: Sequence[Run], paper: Sequence[Printed], base: bool) -> Layout:
    """The paper's rows for other models; columns by the runs' own benchmarks."""
    in_rows = data_in_rows(paper)
    names = {}
    for label, cells in by_row(paper).items():
        kind = replace(_kind(cells[0]), model="")
        names.setdefault(kind, kind.label if in_rows else label.partition(", ")[2])
    order = list(names)
    rows = []
    for row in _unlabelled(runs, in_rows, names):
        kind = replace(row.kind, model="")
        rows.append((order.index(kind) if kind in order else len(order), row))
    rows = [row for _, row in sorted(rows, key=lambda pair: pair[0])]
    asked = any(kind.method == BASE for kind in order)
    if base or asked:
        rows = [*_base_rows(runs, in_rows, optional=not asked), *rows]
    columns = tuple(c for c in papers_columns(paper) if c.kind == "hours")
    columns = columns or with_change(benchmark_columns(runs, paper))
    return Layout(rows=tuple(_together(rows)), columns=columns or (HOURS,))


def _kind(cell: Printed) -> Kind:
    return Kind(model=cell.model, method=cell.method, ratio=cell.ratio, task_model=cell.task_model)


def _runs_of(cells: Sequence[Printed], runs: Sequence[Run]) -> list[Run]:
    """The runs of one printed row."""
    heads_of = {c.data[0]: c.task_data for c in cells if len(c.data) == 1}
    anything = any(not c.data for c in cells)
    return [
        run
        for run in runs
        if kind_of(run) == _kind(cells[0])
        and (anything or heads_of.get(run.data.name, "") == task_data(run))
    ]


def _rows(label: str, kind: Kind, block: str, runs: Sequence[Run]) -> list[Row]:
    """One row, or one for each variant."""
    if kind.method == BASE:  # what trains on the data makes no difference to it
        _refuse_several(label, {r.base_data_key: r for r in reversed(runs)}, seeds=False)
        by_data = {r.data.name: (r,) for r in reversed(runs)}
        names = list(dict.fromkeys(r.data.name for r in runs))
        return [Row(label=label, kind=kind, block=block, runs={d: by_data[d] for d in names})]
    found = []
    for variant, own in variants(runs).items():
        data = dict.fromkeys(r.data.name for r in own)
        by_data = {d: tuple(r for r in own if r.data.name == d) for d in data}
        name = f"{label} [{variant}]" if variant else label
        _refuse_several(name, {r.key: r for r in own})
        found.append(Row(label=name, kind=kind, block=block, variant=variant, runs=by_data))
    return found


def _refuse_several(label: str, runs: Mapping[str, Run], seeds: bool = True) -> None:
    """Raises if runs with different keys have the same data and, where that counts, seed."""
    places: dict[tuple[str, int | None], dict[str, Run]] = {}
    for key, run in runs.items():
        place = (run.data.name, run.seed if seeds else None)
        places.setdefault(place, {})[key] = run
    for (data, seed), own in places.items():
        if len(own) > 1:
            what = f"{len(own)} runs of {data}" + (f" with seed {seed}" if seeds else "")
            told = zip(own, apart(list(own.values())), strict=True)
            which = ", ".join(f"{key} ({text})" if text else key for key, text in told)
            raise ValueError(
                f"row '{label}' has {what} where it can show one: {which}; ask for one of them"
            )


def _unlabelled(
    runs: Sequence[Run], in_rows: bool, names: Mapping[Kind, str] | None = None
) -> list[Row]:
    """Rows for runs that no printed row is about.

    Args:
        runs: The runs.
        in_rows: Whether a row is of one dataset.
        names: Kind of no model -> its label.
    """
    groups: dict[tuple, list[Run]] = {}
    for run in runs:
        own = run.data.name if in_rows else ""
        groups.setdefault((kind_of(run), own, task_data(run) is not None), []).append(run)
    rows = []
    for (kind, own, transferred), each in groups.items():
        block = f"{kind.model} {own}".strip()
        twin = any(k == kind and o == own and t != transferred for k, o, t in groups)
        extra = f", {TRANSFER}" if transferred and twin else ""
        name = (names or {}).get(replace(kind, model=""), kind.label)
        label = ", ".join(part for part in (kind.model, own, name) if part) + extra
        rows += _rows(label, kind, block, each)
    return rows


def _base_rows(runs: Sequence[Run], in_rows: bool, optional: bool) -> list[Row]:
    """A row for each model; an optional one only where it is about one evaluation of each data."""
    rows: list[Row] = []
    for model in dict.fromkeys(r.model.name for r in runs):
        kind, own = Kind(model=model, method=BASE), [r for r in runs if r.model.name == model]
        several = len({r.base_data_key for r in own}) > len({r.data.name for r in own})
        if not in_rows and not (optional and several):
            rows += _rows(f"{model}, {kind.label}", kind, model, own)
    return rows


def _together(rows: Sequence[Row]) -> list[Row]:
    """Rows of a block one after the other, blocks of a model too."""
    models = list(dict.fromkeys(row.kind.model for row in rows))
    blocks = list(dict.fromkeys(row.block for row in rows))
    return sorted(rows, key=lambda r: (models.index(r.kind.model), blocks.index(r.block)))
