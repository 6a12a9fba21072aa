"""The figures of an experiment, as its table suggests, drawn as PNG and PDF."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from alps.heads.head_set import HeadSet
from alps.report.figure import bars, ratio_curve
from alps.report.outcomes import RunOutcome
from alps.report.run_kind import kind_of, task_data
from alps.report.style import SUFFIXES, save_all
from alps.report.table.cells import FilledTable
from alps.report.table.columns import AverageColumn, HoursColumn, ScoreColumn
from alps.settings.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

THE_METHOD = "alps"
"""Method whose heads are drawn where several methods have scores."""


def draw_figures(
    title: str, filled: FilledTable, folder: Path, beside: FilledTable | None = None
) -> list[Path]:
    """Draws every figure for which there are values or heads.

    Args:
        title: Start of each title.
        filled: The table.
        folder: For the files.
        beside: For a table of transfer, the table of the rows' own data.

    Returns:
        The files.
    """
    found = []
    for name, figure in _of_numbers(title, filled, beside):
        found += save_all(figure, folder, name)
    chosen = head_sets(filled)
    return found + _overlaps(chosen, folder) + _heat_maps(chosen, folder)


def _of_numbers(
    title: str, filled: FilledTable, beside: FilledTable | None = None
) -> Iterator[tuple[str, Figure]]:
    columns = filled.layout.columns
    has = [any(cells[j].value is not None for cells in filled.cells) for j in range(len(columns))]
    known = [c for c, has_value in zip(columns, has, strict=True) if has_value]
    averages = any(isinstance(c, AverageColumn) for c in known)
    if averages or any(isinstance(c, ScoreColumn) for c in known):
        yield "bars", bars.draw_bars(f"{title}: scores by benchmark", filled)
        if beside is not None:
            name = f"{title}: scores beside those of Table 1's data"
            yield "transfer", bars.draw_transfer(name, filled, beside)
    several = len({row.block for row in filled.layout.rows}) > 1
    if averages and (several or bars.task_averages(filled)):
        yield "averages", bars.draw_averages(f"{title}: averages by model and task", filled)
    curves = [c for c in ratio_curve.ratio_curves(filled) if c.values()]
    if curves:
        yield "ratio", ratio_curve.draw_curves(f"{title}: share of heads that train", curves)
    for j, column in enumerate(columns):
        if isinstance(column, HoursColumn) and has[j]:
            yield "hours", bars.draw_hours(f"{title}: {column.label}", filled, j)


def head_sets(filled: FilledTable) -> list[tuple[RunOutcome, HeadSet]]:
    """The scored head sets, one for each model, data of the task model, method and task model.

    Of several seeds it is the first, of several ratios the smallest. Where `alps` is among the
    methods, it is the only one, unless all runs are of one dataset.
    """
    outcomes = [o for each in filled.outcomes for o in each if not o.base]
    found: dict[tuple[str, str, str], tuple[RunOutcome, HeadSet]] = {}
    for outcome in sorted(outcomes, key=lambda o: getattr(o.run.method, "ratio", 1.0)):
        run = outcome.run
        place = (run.model.name, heads_from(run), _method(run))
        if place not in found:
            heads = outcome.folder.read_heads()
            if heads is not None and heads.scores is not None:
                found[place] = (outcome, heads)
    several = len({data for _, data, _ in found}) > 1
    only = several and any(o.run.method.name == THE_METHOD for o, _ in found.values())
    return [pair for pair in found.values() if not only or pair[0].run.method.name == THE_METHOD]


def heads_from(run: Run) -> str:
    """Name of the data of the task model that the heads were scored with."""
    return task_data(run) or run.data.name


def _method(run: Run) -> str:
    """The method and an unusual task model: `alps, fewer_data`."""
    task_model = kind_of(run).task_model
    return run.method.name + (f", {task_model}" if task_model not in (None, "sft") else "")


def _overlaps(chosen: Sequence[tuple[RunOutcome, HeadSet]], folder: Path) -> list[Path]:
    """Overlap of each model's head sets between tasks, or between methods if there is one task."""
    from alps.report.heads.overlap import compare
    from alps.report.heads.overlap_view import draw_overlap

    several = len({heads_from(o.run) for o, _ in chosen}) > 1
    models: dict[str, list[tuple[str, HeadSet]]] = {}
    for outcome, heads in chosen:
        run = outcome.run
        name = f"{heads_from(run)}, {_method(run)}" if several else _method(run)
        models.setdefault(run.model.name, []).append((name, heads))
    paths = []
    for model, sets in models.items():
        if len(sets) > 1:
            own = [folder / f"overlap_{model}{suffix}" for suffix in SUFFIXES]
            for path in own:
                draw_overlap(compare(sets), path)
            paths += own
    return paths


def _heat_maps(chosen: Sequence[tuple[RunOutcome, HeadSet]], folder: Path) -> list[Path]:
    from alps.report.heads.heat_map import draw_heat_map

    paths = []
    for outcome, heads in chosen:
        run = outcome.run
        own = _method(run).replace(", ", "_")
        name = f"heads_{run.model.name}_{heads_from(run)}_{own}"
        for suffix in SUFFIXES:
            paths.append(folder / f"{name}{suffix}")
            draw_heat_map(heads, paths[-1], f"{run.model.name}, {heads_from(run)}: {heads.metric}")
    return paths
