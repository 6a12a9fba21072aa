"""A filled table as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from alps.evals.statistics import Interval
from alps.report.table.aggregate import terms
from alps.report.table.cell_text import SHARE, CellText, cell_text, share_text
from alps.report.table.cells import Cell, FilledTable
from alps.report.table.columns import Column
from alps.report.table.comparison import Difference
from alps.report.table.layout import Row
from alps.report.table.notes import Notes
from alps.report.table.provenance import Provenance

INTERVAL = "95 %"
FIELDS: tuple[str, ...] = (
    "row", "model", "method", "ratio", "task_model", "variant", "column", "kind", "benchmarks",
    "data", "qkv_share_low", "qkv_share_high", "value", "num_seeds", "std", "low", "high",
    "from_full", "from_full_low", "from_full_high", "from_full_p", "from_full_p_holm",
    "from_full_p_mcnemar", "from_random", "from_random_low", "from_random_high", "from_random_p",
    "from_random_p_holm", "from_random_p_mcnemar", "unlike_random", "best", "paper", "marks",
    "missing", "runs",
)  # fmt: skip


def markdown(title: str, filled: FilledTable, found: Provenance, notes: Notes) -> str:
    """The table with everything that is to be said about it.

    Args:
        title: Heading.
        filled: The table.
        found: Where its numbers come from.
        notes: Sentences below it.
    """
    heads = ["", SHARE, *(c.label for c in filled.layout.columns)]
    lines = [_line(heads), _line(["---"] + ["---:"] * (len(heads) - 1))]
    for i, (row, cells) in enumerate(filled.lines()):
        texts = [cell_text(c, k) for c, k in zip(cells, filled.layout.columns, strict=True)]
        mark = f" <sup>{found.marks[i]}</sup>" if i in found.marks else ""
        share = share_text(filled.shares[i])
        lines.append(_line([row.label + mark, share, *map(_in_markdown, texts)]))
        if any(text.interval for text in texts):
            lines.append(_line([INTERVAL, "", *(text.interval for text in texts)]))
    below = [*notes.reading, *(f"{m}: {t}" for m, t in notes.marks), *notes.facts, *notes.gaps]
    return f"# {title}\n\n" + "\n".join(lines) + "\n\n" + "".join(map(_item, below))


def _in_markdown(text: CellText) -> str:
    value = f"**{text.value}**" if text.best else text.value
    marks = text.marks.replace("*", "\\*")
    parts = [value + marks, text.std, f"({text.printed})" if text.printed else ""]
    return " ".join(part for part in parts if part)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(_one(cell.replace('|', '/')) for cell in cells)} |"


def _item(text: str) -> str:
    """A sentence as an item of a list; a star that it begins with is no item of its own."""
    escape = "\\" if text.startswith("*") else ""
    return f"- {escape}{_one(text)}\n"


def _one(text: str) -> str:
    return " ".join(text.split())


def csv_text(filled: FilledTable, found: Provenance) -> str:
    """One line for each cell, with every number in full."""
    out = io.StringIO()
    writer = csv.DictWriter(out, FIELDS, lineterminator="\n")
    writer.writeheader()
    for record in records(filled, found):
        writer.writerow({k: _in_csv(v) for k, v in record.items()})
    return out.getvalue()


def json_text(
    experiment: str, command: str, filled: FilledTable, found: Provenance, notes: Notes
) -> str:
    """Cells, notes and the runs behind them, for other programs.

    Args:
        experiment: Its name.
        command: What runs it.
        filled: The table.
        found: Where its numbers come from.
        notes: Sentences below it.
    """
    whole = {
        "experiment": experiment,
        "command": command,
        "cells": list(records(filled, found)),
        "notes": asdict(notes),
        "missing": [asdict(gap) for gap in filled.gaps],
        "runs": _runs(filled),
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def records(filled: FilledTable, found: Provenance) -> Iterator[dict[str, Any]]:
    """Every cell with its place, as plain values under the names of `FIELDS`."""
    for i, (row, cells) in enumerate(filled.lines()):
        share = filled.shares[i]
        for cell, column in zip(cells, filled.layout.columns, strict=True):
            yield {
                **_place(row, column, filled),
                "qkv_share_low": share[0] if share else None,
                "qkv_share_high": share[1] if share else None,
                **_numbers(cell),
                "marks": found.marks.get(i, ""),
                "missing": [f"{g.key}: {g.trouble}" for g in cell.gaps],
                "runs": [s.key for s in filled.subjects[i]],
            }


def _place(row: Row, column: Column, filled: FilledTable) -> dict[str, Any]:
    own = terms(row, column, filled.layout) if column.kind != "hours" else []
    return {
        "row": row.label,
        "model": row.kind.model,
        "method": row.kind.method,
        "ratio": row.kind.ratio,
        "task_model": row.kind.task_model,
        "variant": row.variant,
        "column": column.label,
        "kind": column.kind,
        "benchmarks": list(dict.fromkeys(t.benchmark for t in own)),
        "data": list(dict.fromkeys(t.data for t in own)) or list(row.runs),
    }


def _numbers(cell: Cell) -> dict[str, Any]:
    return {
        "value": cell.value,
        "num_seeds": len(cell.seeds),
        "std": cell.std,
        **_ends("", cell.interval),
        **_compared("from_full", cell.from_full),
        **_compared("from_random", cell.from_random),
        "unlike_random": cell.unlike_random,
        "best": cell.best,
        "paper": cell.printed,
    }


def _compared(name: str, found: Difference | None) -> dict[str, float | None]:
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


def _in_csv(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return " ".join(value) if isinstance(value, list) else value


def _runs(filled: FilledTable) -> Mapping[str, Any]:
    found = {}
    for subject in (s for each in filled.subjects for s in each):
        result = subject.result
        found[subject.key] = {
            "what": subject.what,
            **({} if result is None else {
                name: getattr(result, name) for name in (
                    "seed", "precision", "devices", "train_seconds", "data_hash", "base_hash",
                    "commits", "git_commit", "git_dirty", "versions", "finished_at",
                )
            }),
        }  # fmt: skip
    return found
