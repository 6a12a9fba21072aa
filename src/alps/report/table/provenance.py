"""Provenance of a table's values: code, data, packages and hardware of its runs.

Runs of different code, data or packages are never mixed silently: a letter marks each row that
differs from most, and a note below the table explains it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from string import ascii_lowercase

from alps.report.outcomes import RunOutcome, Score
from alps.report.table.cells import FilledTable
from alps.runs.result import Result

SHOWN_HASH = 10
"""Characters of a hash in a note."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Provenance of the runs of a table.

    Attributes:
        marks: Index of a row -> its letters.
        notes: Letter -> difference of its rows to the others.
        facts: Sentences about precision, devices and code.
    """

    marks: Mapping[int, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    facts: tuple[str, ...] = ()


def provenance(filled: FilledTable) -> Provenance:
    """Differences between the runs of a table, each with a letter."""
    names = _benchmarks(filled)
    aspects: dict[str, list[tuple[int, str]]] = {}
    for i, outcomes in enumerate(filled.outcomes):
        for outcome in outcomes:
            for aspect, value in _aspects(outcome, names):
                aspects.setdefault(aspect, []).append((i, value))
    notes: dict[str, list[int]] = {}
    for aspect, found in aspects.items():
        for text, rows in _different(aspect, found):
            notes.setdefault(text, []).extend(rows)
    for i, outcomes in enumerate(filled.outcomes):
        for text in _asked_otherwise(outcomes, names):
            notes.setdefault(text, []).append(i)
    letters = dict(zip(notes, _letters(), strict=False))
    marks: dict[int, str] = {}
    for text, rows in notes.items():
        for i in dict.fromkeys(rows):
            marks[i] = marks.get(i, "") + letters[text]
    return Provenance(
        marks=marks, notes={letters[text]: text for text in notes}, facts=tuple(_facts(filled))
    )


def _letters() -> Iterator[str]:
    yield from ascii_lowercase
    number = 1
    while True:
        yield f"({number})"
        number += 1


def _benchmarks(filled: FilledTable) -> list[str]:
    return list(dict.fromkeys(b for c in filled.layout.columns for b in c.benchmarks))


def _aspects(outcome: RunOutcome, benchmarks: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Aspects that should be equal in all rows, with their values in this run."""
    result = outcome.result
    if result is None:
        return
    commits = result.commits or {}
    yield "code", _code(result)
    yield f"data {result.data}", _short(f"{result.data_hash} {commits.get('data', '')}")
    yield f"base model {result.model}", _short(f"{result.base_hash} {commits.get('model', '')}")
    if not outcome.base:
        for package in ("torch", "transformers", "peft"):
            yield package, result.versions.get(package, "unknown")
    for name in benchmarks:
        score = outcome.score(name)
        if not isinstance(score, Score) or score.evaluation is None:
            continue
        evaluation = score.evaluation
        yield f"documents of {name}", _short(evaluation.documents or "unknown")
        yield f"number of documents of {name}", str(evaluation.num_documents)
        yield f"protocol of {name}", evaluation.protocol
        yield f"precision in which {name} was evaluated", evaluation.precision
        for package in ("lm-eval", "evalplus"):
            yield f"{package} for {name}", evaluation.versions.get(package, "unknown")


def _different(aspect: str, found: Sequence[tuple[int, str]]) -> Iterator[tuple[str, list[int]]]:
    """A note for each value except the most common one, with its rows."""
    counts = Counter(value for _, value in found)
    usual, *others = [value for value, _ in counts.most_common()]
    for value in others:
        rows = [i for i, own in found if own == value]
        yield f"{aspect}: {value}, where most have {usual}", rows


def _asked_otherwise(outcomes: Sequence[RunOutcome], benchmarks: Sequence[str]) -> Iterator[str]:
    for outcome in outcomes:
        for name in benchmarks if outcome.result else ():
            score = outcome.score(name)
            if isinstance(score, Score) and score.otherwise:
                yield f"{name} was asked otherwise than this experiment does: {score.otherwise}"


def _facts(filled: FilledTable) -> Iterator[str]:
    trained = {s.key: s for each in filled.outcomes for s in each if s.result and not s.base}
    hardware: dict[str, list[RunOutcome]] = {}
    for outcome in trained.values():
        assert outcome.result is not None
        hardware.setdefault(_hardware(outcome.result), []).append(outcome)
    for text, outcomes in hardware.items():
        yield f"trained in {text}: {_some(outcomes, len(trained))}"
    for text, outcomes in _deviations(trained.values()).items():
        yield f"{text}: {_some(outcomes, len(trained))}"
    codes = Counter(_code(s.result) for s in trained.values() if s.result)
    if codes:
        code, count = codes.most_common(1)[0]
        yield f"code: {code}" if len(codes) == 1 else f"code of most ({count}): {code}"


def _deviations(outcomes: Iterable[RunOutcome]) -> dict[str, list[RunOutcome]]:
    """Deviations from the settings, as the runs recorded them."""
    found: dict[str, list[RunOutcome]] = {}
    for outcome in outcomes:
        for text in outcome.result.deviations if outcome.result else ():
            found.setdefault(f"deviation: {text}", []).append(outcome)
    return found


def _hardware(result: Result) -> str:
    devices = f"{result.devices} devices" if (result.devices or 1) > 1 else "one device"
    return f"{result.precision or 'an unknown precision'} on {devices}"


def _some(outcomes: Sequence[RunOutcome], total: int) -> str:
    if len(outcomes) == total:
        return "all runs" if total > 1 else "the one run"
    models = list(dict.fromkeys(s.run.model.name for s in outcomes))
    return f"{len(outcomes)} of {total} runs ({', '.join(models)})"


def _code(result: Result) -> str:
    version = f"alps {result.versions.get('alps', 'unknown')}"
    if result.git_commit is None:
        return version
    changed = ", with changes that are in no commit" if result.git_dirty else ""
    return f"{version}, commit {result.git_commit[:SHOWN_HASH]}{changed}"


def _short(text: str) -> str:
    """Text with its hashes cut to their first characters."""
    words = text.split()
    return " ".join(w if "@" in w or len(w) < 2 * SHOWN_HASH else w[:SHOWN_HASH] for w in words)
