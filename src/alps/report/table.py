"""One row for each run: on the terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alps.results import Result, write_text

DASH = "—"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A run in a table: its result, or why there is none."""

    key: str
    result: Result | None = None
    failure: str | None = None


def table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Column names and cells.

    Each benchmark gets a column for each of its metrics. A failed run shows its reason.
    """
    metrics = _metrics(rows)
    names = [c.name for c in _COLUMNS] + [f"{b} {m}" for b, m in metrics] + ["run"]
    cells = []
    for row in rows:
        if row.result is None:
            line = [row.key.rsplit("-", 1)[0], f"failed: {row.failure}"]
            cells.append([*line, *[DASH] * (len(names) - 3), row.key])
            continue
        result = row.result
        values = [_number(result.evals.get(b, {}).get(m)) for b, m in metrics]
        cells.append([*(c.cell(result) for c in _COLUMNS), *values, row.key])
    return names, cells


def markdown(rows: Sequence[Row]) -> str:
    """The table in Markdown."""
    names, cells = table(rows)
    lines = [names, ["---"] * len(names), *cells]
    return (
        "\n".join(f"| {' | '.join(c.replace('|', '/') for c in line)} |" for line in lines) + "\n"
    )


def csv_text(rows: Sequence[Row]) -> str:
    """The table as CSV, with every number in full."""
    metrics = _metrics(rows)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*_FIELDS, *(f"{b}/{m}" for b, m in metrics), "failure"])
    for row in rows:
        if row.result is None:
            writer.writerow([row.key, *[""] * (len(_FIELDS) - 1 + len(metrics)), row.failure])
            continue
        values = [getattr(row.result, f) for f in _FIELDS]
        scores = [row.result.evals.get(b, {}).get(m) for b, m in metrics]
        writer.writerow(["" if v is None else v for v in [*values, *scores, ""]])
    return out.getvalue()


def write_table(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Writes `table.md` and `table.csv`; returns their paths."""
    paths = [folder / "table.md", folder / "table.csv"]
    write_text(paths[0], markdown(rows))
    write_text(paths[1], csv_text(rows))
    return paths


def print_table(rows: Sequence[Row]) -> None:
    """Prints the table for people; wide tables are not cut where output is no terminal."""
    from rich.console import Console
    from rich.table import Table

    names, cells = table(rows)
    grid = Table(show_edge=False, pad_edge=False)
    for name in names:
        left = name in ("method", "scope", "run", "model", "data")
        grid.add_column(name, justify="left" if left else "right", overflow="fold")
    for line in cells:
        grid.add_row(*line)
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(console.width, 24 * len(names)))
    console.print(grid)


@dataclass(frozen=True)
class _Column:
    name: str
    cell: Callable[[Result], str]


def _metrics(rows: Sequence[Row]) -> list[tuple[str, str]]:
    evals = [r.result.evals for r in rows if r.result]
    return list(dict.fromkeys((b, m) for e in evals for b, values in e.items() for m in values))


def _number(value: float | None, digits: int = 3) -> str:
    return DASH if value is None else f"{value:.{digits}f}"


def _text(value: Any) -> str:
    return DASH if value is None else str(value)


def _megabytes(value: int | None) -> str:
    return DASH if value is None else f"{value / 2**20:.0f}"


_COLUMNS = [
    _Column("method", lambda r: r.method),
    _Column("ratio", lambda r: _text(r.ratio)),
    _Column("scope", lambda r: _text(r.scope)),
    _Column("trainable", lambda r: f"{r.num_trainable:,}"),
    _Column("trainable %", lambda r: f"{100 * r.trainable_fraction:.2f}"),
    _Column("train s", lambda r: _number(r.train_seconds, 1)),
    _Column("peak MiB", lambda r: _megabytes(r.peak_memory_bytes)),
    _Column("train loss", lambda r: _number(r.final_train_loss)),
]

_FIELDS = [
    "key", "model", "data", "method", "ratio", "scope", "seed", "num_trainable",
    "trainable_fraction", "num_heads_selected", "train_seconds", "tokens_per_second",
    "peak_memory_bytes", "final_train_loss", "precision",
]  # fmt: skip
