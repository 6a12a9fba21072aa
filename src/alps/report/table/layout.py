"""The rows and columns of a table: the paper's, or as the runs suggest.

If all runs are of the paper's models and data, the table has the paper's rows and columns with
their labels, and columns of held-out losses, which the paper does not report. Otherwise
(`scale=mini`, another model) it has the paper's rows for each model of the runs, and a column for
each benchmark of each dataset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from alps.report.run_kind import (
    BASE,
    Kind,
    distinguishing_settings,
    kind_of,
    task_data,
    variants,
)
from alps.report.style import VANILLA, MethodStyle
from alps.report.table.column_layout import (
    HOURS,
    add_change_column,
    benchmark_columns,
    column_label,
    loss_columns,
    paper_columns,
)
from alps.report.table.columns import Column, HoursColumn
from alps.report.table.paper import PaperNumber, group_by_row, has_row_per_dataset
from alps.settings.run import Run

TRANSFER = "heads from other data"

Styles = Mapping[str, MethodStyle]
"""Method -> its style."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table.

    Attributes:
        label: Its name, starting with the model's.
        kind: Kind of its runs.
        block: Rows of one block are compared with each other.
        variant: Further settings that distinguish it from other rows of its kind.
        runs: Data -> its runs, one for each seed; for `base` the runs of that model.
    """

    label: str
    kind: Kind
    block: str
    variant: str = ""
    runs: Mapping[str, tuple[Run, ...]] = field(default_factory=dict)

    def columns_data(self, column: Column) -> tuple[str, ...]:
        """Data whose runs count in a column; a base model has the same answers for all data."""
        if self.kind.method == BASE and len(column.data) != 1:
            return tuple(self.runs)[:1]
        return column.data or tuple(self.runs)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A table without values.

    Attributes:
        rows: In order, grouped by model.
        columns: In order.
        printed: Row and column -> the paper's number, if this is the paper's table.
        absent: Labels of the paper's rows for which the grid has no run.
        styles: Style of each method that has one.
    """

    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    printed: Mapping[tuple[str, str], float] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    styles: Styles = field(default_factory=dict)


def build_layout(
    runs: Sequence[Run],
    paper: Sequence[PaperNumber],
    base: bool = False,
    styles: Styles | None = None,
) -> Layout:
    """The layout of a table of runs.

    Args:
        runs: Of the experiment's grid, in its order.
        paper: The paper's numbers, or nothing.
        base: Whether base models have rows even where the paper has none.
        styles: Style of each method that has one; other methods are labelled by their names.

    Raises:
        ValueError: If several runs belong in one place of a row; one sentence.
    """
    known = {BASE: VANILLA, **(styles or {})}
    if is_paper_table(runs, paper):
        layout = _paper_layout(runs, paper, known)
    else:
        layout = _generic_layout(runs, paper, base, known)
    shown = [c for c in layout.columns if _has_value(c, layout)]
    return replace(layout, columns=tuple(shown), styles=known)


def is_paper_table(runs: Sequence[Run], paper: Sequence[PaperNumber]) -> bool:
    """Whether all runs are of the paper's models and data."""
    models = {p.model for p in paper}
    data = {d for p in paper for d in p.data}
    known = (r.model.name in models and (not data or r.data.name in data) for r in runs)
    return bool(paper) and all(known)


def _has_value(column: Column, layout: Layout) -> bool:
    """Whether some row has a number of the paper in a column, or may get one from its runs."""
    printed = any((row.label, column.label) in layout.printed for row in layout.rows)
    return printed or column.can_have_value(layout.rows, layout.columns)


def _paper_layout(runs: Sequence[Run], paper: Sequence[PaperNumber], styles: Styles) -> Layout:
    per_dataset = has_row_per_dataset(paper)
    rows: list[Row] = []
    absent, claimed, models = [], set(), {r.model.name for r in runs}
    for label, cells in group_by_row(paper).items():
        found = _runs_of(cells, runs)
        claimed |= {r.key for r in found}
        kind = _kind(cells[0])
        own = {d for c in cells for d in c.data}
        block = f"{kind.model} {min(own)}" if per_dataset else kind.model
        if kind.method == BASE and kind.model in models:
            found = [r for r in runs if r.model.name == kind.model]
        if found:
            rows += _rows(label, kind, block, found)
        elif kind.model in models:
            absent.append(label)
    rest = [r for r in runs if r.key not in claimed]
    return Layout(
        rows=_grouped([*rows, *_unprinted_rows(rest, per_dataset, styles)]),
        columns=(*add_change_column(paper_columns(paper)), *loss_columns(runs, paper)),
        printed={(p.row, column_label(p)): p.value for p in paper},
        absent=tuple(absent),
    )


def _generic_layout(
    runs: Sequence[Run], paper: Sequence[PaperNumber], base: bool, styles: Styles
) -> Layout:
    """The paper's rows for other models; columns by the runs' own benchmarks."""
    per_dataset = has_row_per_dataset(paper)
    names: dict[Kind, str] = {}
    for label, cells in group_by_row(paper).items():
        kind = replace(_kind(cells[0]), model="")
        names.setdefault(kind, kind.label(styles) if per_dataset else label.partition(", ")[2])
    order = list(names)
    rows = _unprinted_rows(runs, per_dataset, styles, names)
    kinds = [replace(row.kind, model="") for row in rows]
    ranks = [order.index(kind) if kind in order else len(order) for kind in kinds]
    rows = [rows[i] for i in sorted(range(len(rows)), key=ranks.__getitem__)]
    in_paper = any(kind.method == BASE for kind in order)
    if (base or in_paper) and not per_dataset:
        rows = [*_base_rows(runs, styles, optional=not in_paper), *rows]
    columns = tuple(c for c in paper_columns(paper) if isinstance(c, HoursColumn))
    columns = columns or add_change_column(benchmark_columns(runs, paper))
    return Layout(rows=_grouped(rows), columns=columns or (HOURS,))


def _kind(cell: PaperNumber) -> Kind:
    return Kind(model=cell.model, method=cell.method, ratio=cell.ratio, task_model=cell.task_model)


def _runs_of(cells: Sequence[PaperNumber], runs: Sequence[Run]) -> list[Run]:
    """The runs of a printed row."""
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
    if kind.method == BASE:  # evaluated without training
        _check_unique(label, {r.base_data_key: r for r in reversed(runs)}, seeds=False)
        by_data = {r.data.name: (r,) for r in reversed(runs)}
        names = list(dict.fromkeys(r.data.name for r in runs))
        return [Row(label=label, kind=kind, block=block, runs={d: by_data[d] for d in names})]
    found = []
    for variant, own in variants(runs).items():
        data = dict.fromkeys(r.data.name for r in own)
        by_data = {d: tuple(r for r in own if r.data.name == d) for d in data}
        name = f"{label} [{variant}]" if variant else label
        _check_unique(name, {r.key: r for r in own})
        found.append(Row(label=name, kind=kind, block=block, variant=variant, runs=by_data))
    return found


def _check_unique(label: str, runs: Mapping[str, Run], seeds: bool = True) -> None:
    """Raises if runs with different keys have the same data and, with `seeds`, the same seed."""
    places: dict[tuple[str, int | None], dict[str, Run]] = {}
    for key, run in runs.items():
        place = (run.data.name, run.seed if seeds else None)
        places.setdefault(place, {})[key] = run
    for (data, seed), own in places.items():
        if len(own) > 1:
            several = f"{len(own)} runs of {data}" + (f" with seed {seed}" if seeds else "")
            pairs = zip(own, distinguishing_settings(list(own.values())), strict=True)
            which = ", ".join(f"{key} ({text})" if text else key for key, text in pairs)
            raise ValueError(
                f"row '{label}' has {several} where it can show one: {which}; ask for one of them"
            )


def _unprinted_rows(
    runs: Sequence[Run],
    per_dataset: bool,
    styles: Styles,
    names: Mapping[Kind, str] | None = None,
) -> list[Row]:
    """Rows for runs that belong to no printed row.

    `names` has the paper's names by kind, with an empty model.
    """
    groups: dict[tuple[Kind, str, bool], list[Run]] = {}
    for run in runs:
        data = run.data.name if per_dataset else ""
        groups.setdefault((kind_of(run), data, task_data(run) is not None), []).append(run)
    rows = []
    for (kind, data, transferred), each in groups.items():
        block = f"{kind.model} {data}".strip()
        extra = f", {TRANSFER}" if transferred and (kind, data, False) in groups else ""
        name = (names or {}).get(replace(kind, model=""), kind.label(styles))
        label = ", ".join(part for part in (kind.model, data, name) if part) + extra
        rows += _rows(label, kind, block, each)
    return rows


def _base_rows(runs: Sequence[Run], styles: Styles, optional: bool) -> list[Row]:
    """A row for each base model; an optional one only if each data has a single evaluation."""
    rows: list[Row] = []
    for model in dict.fromkeys(r.model.name for r in runs):
        kind, own = Kind(model=model, method=BASE), [r for r in runs if r.model.name == model]
        several = len({r.base_data_key for r in own}) > len({r.data.name for r in own})
        if not (optional and several):
            rows += _rows(f"{model}, {kind.label(styles)}", kind, model, own)
    return rows


def _grouped(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Rows grouped by model, then by block."""
    models = list(dict.fromkeys(row.kind.model for row in rows))
    blocks = list(dict.fromkeys(row.block for row in rows))
    return tuple(sorted(rows, key=lambda r: (models.index(r.kind.model), blocks.index(r.block))))
