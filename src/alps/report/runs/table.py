"""A table with one row for each run: on the terminal, as Markdown and as CSV."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alps.base.atomic import write_text
from alps.report.style import DASH
from alps.report.text_tables import csv_table, markdown_table, terminal, terminal_table
from alps.runs.result import Result

LEFT = ("method", "scope", "run", "model", "data", "task_model")
"""Columns that are left-aligned."""


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """A run in a table: its result, or why there is none.

    Attributes:
        key: Of the run.
        result: Its result, or None.
        failure: Why it has no result.
        settings: Settings that become columns where rows differ in them.
    """

    key: str
    result: Result | None = None
    failure: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


def table_cells(rows: Sequence[RunRow]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells.

    Each metric of each benchmark has a column, and so has each setting in which the runs differ. A
    failed run shows its reason.
    """
    metrics, differing = _metrics(rows), _differing(rows)
    columns = [c for c in _COLUMNS if c.shown(rows)]
    headings = [*_NAMING, *differing, *(c.name for c in columns)]
    headings += [*(f"{b} {m}" for b, m in metrics), "run"]
    cells = []
    for row in rows:
        naming = [_text(v) for v in _named(row)]
        naming += [_text(row.settings.get(name)) for name in differing]
        if row.result is None:
            rest = [f"failed: {row.failure}", *[DASH] * (len(columns) - 1 + len(metrics))]
        else:
            rest = [c.cell(row.result) for c in columns]
            rest += [_number(row.result.evals.get(b, {}).get(m)) for b, m in metrics]
        cells.append([*naming, *rest, row.key])
    return headings, cells


def markdown(rows: Sequence[RunRow]) -> str:
    """The table in Markdown."""
    headings, cells = table_cells(rows)
    return markdown_table([headings, ["---"] * len(headings), *cells])


def csv_text(rows: Sequence[RunRow]) -> str:
    """The table as CSV, with all digits."""
    metrics = _metrics(rows)
    lines: list[list[Any]] = [[*_FIELDS, *(f"{b}/{m}" for b, m in metrics), "failure"]]
    for row in rows:
        if row.result is None:
            lines.append([row.key, *[None] * (len(_FIELDS) - 1 + len(metrics)), row.failure])
            continue
        values = [getattr(row.result, f) for f in _FIELDS]
        scores = [row.result.evals.get(b, {}).get(m) for b, m in metrics]
        lines.append([*values, *scores, None])
    return csv_table(lines)


def write_table(rows: Sequence[RunRow], folder: Path) -> list[Path]:
    """Writes `table.md` and `table.csv`; returns their paths."""
    paths = [folder / "table.md", folder / "table.csv"]
    write_text(paths[0], markdown(rows))
    write_text(paths[1], csv_text(rows))
    return paths


def print_table(rows: Sequence[RunRow]) -> None:
    """Prints the table; nothing is cut where output is no terminal."""
    headings, cells = table_cells(rows)
    terminal(24 * len(headings)).print(terminal_table(headings, LEFT, cells))


@dataclass(frozen=True)
class _Column:
    """A column that is shown `always`, or only if some run has a value."""

    name: str
    cell: Callable[[Result], str]
    always: bool = True

    def shown(self, rows: Sequence[RunRow]) -> bool:
        return self.always or any(r.result and self.cell(r.result) != DASH for r in rows)


def _metrics(rows: Sequence[RunRow]) -> list[tuple[str, str]]:
    evals = [r.result.evals for r in rows if r.result]
    return list(dict.fromkeys((b, m) for e in evals for b, values in e.items() for m in values))


def _differing(rows: Sequence[RunRow]) -> list[str]:
    names = dict.fromkeys(n for r in rows for n in r.settings if n not in _NAMING)
    values = {n: {str(r.settings[n]) for r in rows if n in r.settings} for n in names}
    return [n for n in names if len(values[n]) > 1]


def _named(row: RunRow) -> list[Any]:
    if row.result:
        return [row.result.method, row.result.ratio, row.result.scope]
    return [row.key.rsplit("-", 1)[0], row.settings.get("ratio"), row.settings.get("scope")]


def _number(value: float | None, digits: int = 3) -> str:
    return DASH if value is None else f"{value:.{digits}f}"


def _percent(share: float | None) -> str:
    return DASH if share is None else f"{100 * share:.1f}"


def _text(value: Any) -> str:
    return DASH if value is None else str(value)


def _megabytes(value: int | None) -> str:
    return DASH if value is None else f"{value / 2**20:.0f}"


_NAMING = ("method", "ratio", "scope")

_COLUMNS = [
    _Column("trainable", lambda r: f"{r.num_trainable:,}"),
    _Column("trainable %", lambda r: f"{100 * r.trainable_fraction:.2f}"),
    _Column("Attn%", lambda r: _percent(r.qkv_fraction), always=False),
    _Column("score mass", lambda r: _number(r.score_mass, 2), always=False),
    _Column("FLOPs", lambda r: _number(r.flops_vs_full, 2)),
    _Column("train s", lambda r: _number(r.train_seconds, 1)),
    _Column("peak MiB", lambda r: _megabytes(r.peak_memory_bytes)),
    _Column("predicted MiB", lambda r: _megabytes(r.predicted_memory_bytes), always=False),
    _Column("train loss", lambda r: _number(r.final_train_loss)),
]

_FIELDS = [
    "key", "model", "data", "method", "ratio", "scope", "seed", "num_trainable",
    "trainable_fraction", "qkv_fraction", "num_heads_selected", "train_seconds",
    "tokens_per_second", "peak_memory_bytes", "final_train_loss", "precision",
    "flops_per_token_forward", "flops_per_token_backward", "flops_vs_full",
    "predicted_memory_bytes", "score_mass",
]  # fmt: skip
