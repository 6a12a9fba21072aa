"""A filled table as Markdown, CSV and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from alps.evals.statistics import Interval
from alps.report.table.cell_text import INTERVAL, SHARE, CellText, row_texts
from alps.report.table.cells import Cell, FilledTable
from alps.report.table.columns import Column
from alps.report.table.comparison import Difference
from alps.report.table.layout import Row
from alps.report.table.notes import Notes
from alps.report.table.provenance import Provenance
from alps.report.text_tables import csv_table, markdown_table

FIELDS: tuple[str, ...] = (
    "row", "model", "method", "ratio", "task_model", "variant", "column", "kind", "benchmarks",
    "data", "qkv_share_low", "qkv_share_high", "value", "num_seeds", "std", "low", "high",
    "from_full", "from_full_low", "from_full_high", "from_full_p", "from_full_p_holm",
    "from_full_p_mcnemar", "from_random", "from_random_low", "from_random_high", "from_random_p",
    "from_random_p_holm", "from_random_p_mcnemar", "unlike_random", "best", "paper", "marks",
    "missing", "runs",
)  # fmt: skip
"""Columns of `results.csv`."""

RESULT_FIELDS = (
    "seed", "precision", "devices", "train_seconds", "data_hash", "base_hash", "commits",
    "git_commit", "git_dirty", "versions", "finished_at",
)  # fmt: skip
"""Fields of a run's result in `results.json`."""


def markdown(title: str, filled: FilledTable, found: Provenance, notes: Notes) -> str:
    """The table in Markdown with its notes."""
    headings = ["", SHARE, *(c.label for c in filled.layout.columns)]
    lines = [headings, ["---"] + ["---:"] * (len(headings) - 1)]
    for row in row_texts(filled, found):
        letters = f" <sup>{row.letters}</sup>" if row.letters else ""
        lines.append([row.label + letters, row.share, *map(_markdown_cell, row.cells)])
        if row.has_intervals:
            lines.append([INTERVAL, "", *(cell.interval for cell in row.cells)])
    below = [*notes.reading, *(f"{m}: {t}" for m, t in notes.marks), *notes.facts, *notes.gaps]
    return f"# {title}\n\n{markdown_table(lines)}\n" + "".join(map(_item, below))


def _markdown_cell(text: CellText) -> str:
    value = f"**{text.value}**" if text.best else text.value
    marks = text.marks.replace("*", "\\*")
    parts = [value + marks, text.std, f"({text.printed})" if text.printed else ""]
    return " ".join(part for part in parts if part)


def _item(text: str) -> str:
    """A sentence as a list item; a leading star would start an item of its own."""
    escape = "\\" if text.startswith("*") else ""
    return f"- {escape}{' '.join(text.split())}\n"


def csv_text(filled: FilledTable, found: Provenance) -> str:
    """One line for each cell, with all digits."""
    cells = [[_csv_value(record[name]) for name in FIELDS] for record in records(filled, found)]
    return csv_table([FIELDS, *cells])


def json_text(
    experiment: str, command: str, filled: FilledTable, found: Provenance, notes: Notes
) -> str:
    """Cells, notes and runs, for other programs."""
    content = {
        "experiment": experiment,
        "command": command,
        "cells": list(records(filled, found)),
        "notes": asdict(notes),
        "missing": [asdict(gap) for gap in filled.gaps],
        "runs": _runs(filled),
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def records(filled: FilledTable, found: Provenance) -> Iterator[dict[str, Any]]:
    """Every cell with its row and column, under the names of `FIELDS`."""
    for i, (row, cells) in enumerate(filled.rows()):
        share = filled.shares[i]
        for cell, column in zip(cells, filled.layout.columns, strict=True):
            yield {
                **_place(row, column, filled),
                "qkv_share_low": share[0] if share else None,
                "qkv_share_high": share[1] if share else None,
                **_numbers(cell),
                "marks": found.marks.get(i, ""),
                "missing": [f"{g.key}: {g.trouble}" for g in cell.gaps],
                "runs": [o.key for o in filled.outcomes[i]],
            }


def _place(row: Row, column: Column, filled: FilledTable) -> dict[str, Any]:
    parts = column.weighted_scores(row, filled.layout.columns)
    return {
        "row": row.label,
        "model": row.kind.model,
        "method": row.kind.method,
        "ratio": row.kind.ratio,
        "task_model": row.kind.task_model,
        "variant": row.variant,
        "column": column.label,
        "kind": column.kind,
        "benchmarks": list(dict.fromkeys(p.benchmark for p in parts)),
        "data": list(dict.fromkeys(p.data for p in parts)) or list(row.runs),
    }


def _numbers(cell: Cell) -> dict[str, Any]:
    return {
        "value": cell.value,
        "num_seeds": len(cell.seeds),
        "std": cell.std,
        **_ends("", cell.interval),
        **_difference("from_full", cell.from_full),
        **_difference("from_random", cell.from_random),
        "unlike_random": cell.unlike_random,
        "best": cell.best,
        "paper": cell.printed,
    }


def _difference(name: str, found: Difference | None) -> dict[str, float | None]:
    return {
        name: found.value if found else None,
        **_ends(f"{name}_", found.interval if found else None),
        f"{name}_p": found.p if found else None,
        f"{name}_p_holm": found.p_holm if found else None,
        f"{name}_p_mcnemar": found.p_mcnemar if found else None,
    }


def _ends(prefix: str, ends: Interval | None) -> dict[str, float | None]:
    return {
        f"{prefix}low": ends.low if ends else None,
        f"{prefix}high": ends.high if ends else None,
    }


def _csv_value(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return " ".join(value) if isinstance(value, list) else value


def _runs(filled: FilledTable) -> Mapping[str, Any]:
    found = {}
    for outcome in (o for each in filled.outcomes for o in each):
        result = outcome.result
        found[outcome.key] = {"what": outcome.description}
        if result is not None:
            found[outcome.key] |= {name: getattr(result, name) for name in RESULT_FIELDS}
    return found
