"""The notes below a table: how to read it, which rows differ, and which runs are missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from alps.report.outcomes import MissingScore
from alps.report.run_kind import BASE
from alps.report.style import DASH
from alps.report.table.cell_text import PARTIAL, SHARE, UNLIKE_RANDOM
from alps.report.table.cells import FilledTable
from alps.report.table.columns import ChangeColumn, HoursColumn, LossColumn, ScoreColumn
from alps.report.table.provenance import Provenance

MOST_LISTED = 8
"""Runs that one note names."""

EXPLAINED = (ScoreColumn, LossColumn, HoursColumn)
"""Columns whose units are explained, in this order."""


@dataclass(frozen=True, kw_only=True)
class Notes:
    """Sentences below a table.

    Attributes:
        reading: How to read it.
        marks: Letter and the note about the rows that have it.
        facts: Precision, devices and code of the runs.
        gaps: Missing runs, the reasons, and the commands that run them.
    """

    reading: tuple[str, ...]
    marks: tuple[tuple[str, str], ...]
    facts: tuple[str, ...]
    gaps: tuple[str, ...]


def build_notes(filled: FilledTable, found: Provenance, command: str) -> Notes:
    """The sentences below a table."""
    return Notes(
        reading=tuple(_reading(filled)),
        marks=tuple(found.notes.items()),
        facts=found.facts,
        gaps=tuple(_gaps(filled, command)),
    )


def _reading(filled: FilledTable) -> Iterator[str]:
    columns = filled.layout.columns
    cells = [cell for row in filled.cells for cell in row]
    shown = [k.unit for k in EXPLAINED if any(isinstance(c, k) for c in columns)]
    yield "; ".join(shown)
    if any(cell.best for cell in cells):
        yield "bold: best of its model" + (
            " (lowest)" if all(c.lower_is_better for c in columns) else ", vanilla left out"
            if any(row.kind.method == BASE for row in filled.layout.rows) else ""
        )  # fmt: skip
    if any(cell.printed is not None for cell in cells):
        yield "in parentheses: the paper's number"
    if any(filled.shares):
        yield (
            f"{SHARE}: share of the Q/K/V weights that train, for LoRA of its adapters' parameters"
        )
    yield from _seeds_and_intervals(filled)
    yield from _unlike_random(filled)
    if any(cell.partial for cell in cells):
        yield f"{PARTIAL} only of those seeds that are there, for changes in both rows"
    yield from _compared(filled)


def _seeds_and_intervals(filled: FilledTable) -> Iterator[str]:
    cells = [cell for row in filled.cells for cell in row]
    trained = [own for row, own in filled.rows() if row.kind.method != BASE]
    seeds = ", ".join(map(str, sorted({s for own in trained for c in own for s in c.seeds})))
    several = any(cell.std is not None for cell in cells)
    if several:
        yield f"mean ± standard deviation over seeds {seeds}"
    elif seeds:
        yield f"one seed ({seeds}): how much another would change is unknown"
    pairs = (zip(row, filled.layout.columns, strict=True) for row in filled.cells)
    changes = [cell for row in pairs for cell, c in row if isinstance(c, ChangeColumn)]
    if any(cell.interval is not None for cell in cells):
        over = "documents, where there are several seeds over both" if several else "documents"
        paired = "; for changes paired" if any(cell.interval for cell in changes) else ""
        yield f"below each number: 95 % interval over {over}{paired}" + (
            ", with McNemar's exact p"
            if any(cell.from_full and cell.from_full.p_mcnemar is not None for cell in changes)
            else ""
        )
    if any(cell.interval and not cell.interval.has_width for cell in cells):
        yield "an interval without width: all documents came out alike; others need not"


def _unlike_random(filled: FilledTable) -> Iterator[str]:
    cells = [cell for row in filled.cells for cell in row]
    found = {cell.unlike_random for cell in cells}
    compared = [c.from_random for c in cells if c.from_random and c.from_random.p_holm is not None]
    corrected = "corrected by Holm" if filled.correction == "holm" else "not corrected"
    exact = any(found.p_mcnemar is not None for found in compared)
    test = "McNemar's exact test where answers are right or wrong, else " if exact else ""
    how = (
        f"{test}the paired interval; 5 % level, {corrected} for the {len(compared)} comparisons "
        "with Random"
    )
    if "methods" in found:
        yield f"{UNLIKE_RANDOM['methods']} differs from Random, over seeds and documents ({how})"
    if "models" in found:
        yield (
            f"{UNLIKE_RANDOM['models']} this model and that of Random differ on these "
            f"documents ({how}); with one seed each, that is no finding about the methods"
        )


def _compared(filled: FilledTable) -> Iterator[str]:
    """Rows that are compared over fewer seeds than one of the two has."""
    for name, reference in (("w/ full", "from_full"), ("Random", "from_random")):
        found: dict[str, None] = {}
        for row, cells in filled.rows():
            for change in (getattr(cell, reference) for cell in cells):
                if change is not None and change.partial:
                    seeds = ", ".join(map(str, change.seeds))
                    found[f"{row.label} (seed{'s' * (len(change.seeds) > 1)} {seeds})"] = None
        if found:
            yield f"compared with {name} over the seeds that both have: {'; '.join(found)}"


def _gaps(filled: FilledTable, command: str) -> Iterator[str]:
    gaps = filled.gaps
    for trouble in ("failed", "unreadable"):
        for gap in (g for g in gaps if g.trouble == trouble):
            yield f"{trouble}: {gap.what}: {gap.reason} ({gap.key})"
    running = [g for g in gaps if g.trouble == "running"]
    if running:
        yield f"running now: {_listed(running)}"
    unasked = [g for g in gaps if g.trouble == "not evaluated"]
    for reason in dict.fromkeys(g.reason for g in unasked):
        yield f"{reason}: {_listed([g for g in unasked if g.reason == reason])}"
    missing = [g for g in gaps if g.trouble == "missing"]
    own = [g for g in missing if g.base_of is None]
    if own:
        yield f"not run yet ({len(own)}): {_listed(own)}"
    if any(g.base_of is None for g in gaps):
        yield f"{DASH} is filled by `{command}`, which does only what is not done"
    data = list(dict.fromkeys(g.base_of for g in gaps if g.base_of is not None))
    if data:
        own = "" if " data=" in command else f" data={','.join(data)}"
        evaluate = command.replace("alps train", "alps evaluate -m", 1)
        yield f"{DASH} of models as they are is filled by `{evaluate}{own}`"
    if filled.layout.absent:
        rows = "; ".join(filled.layout.absent)
        yield f"rows of the paper without a run in this grid: {rows}"


def _listed(gaps: Sequence[MissingScore]) -> str:
    shown = "; ".join(g.what for g in gaps[:MOST_LISTED])
    more = len(gaps) - MOST_LISTED
    return f"{shown}; and {more} more" if more > 0 else shown
