"""Where the numbers of a table come from, and which rows are not like the others.

Runs of other code, data or packages are never mixed silently: a row with something of the kind is
marked with a letter, and the letter is explained below the table.
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


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What is to be said below a table about the runs in it.

    Attributes:
        marks: Index of a row -> its letters.
        notes: Letter -> what is different about its rows.
        facts: What holds for the table or parts of it: code, precision, devices.
    """

    marks: Mapping[int, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    facts: tuple[str, ...] = ()


def provenance(filled: FilledTable) -> Provenance:
    """What sets rows apart, by letter.

    Args:
        filled: The table.
    """
    names = _benchmarks(filled)
    aspects: dict[str, list[tuple[int, str]]] = {}
    for i, subjects in enumerate(filled.subjects):
        for subject in subjects:
            for aspect, value in _aspects(subject, names):
                aspects.setdefault(aspect, []).append((i, value))
    notes: dict[str, list[int]] = {}
    for aspect, found in aspects.items():
        for text, rows in _different(aspect, found):
            notes.setdefault(text, []).extend(rows)
    for i, subjects in enumerate(filled.subjects):
        for text in _asked_otherwise(subjects, names):
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


def _aspects(subject: RunOutcome, benchmarks: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What ought to be the same in all rows: the aspect, and the value it has here."""
    result = subject.result
    if result is None:
        return
    commits = result.commits or {}
    yield "code", _code(result)
    yield f"data {result.data}", _short(f"{result.data_hash} {commits.get('data', '')}")
    yield f"base model {result.model}", _short(f"{result.base_hash} {commits.get('model', '')}")
    if not subject.base:
        for package in ("torch", "transformers", "peft"):
            yield package, result.versions.get(package, "unknown")
    for name in benchmarks:
        score = subject.score(name)
        if not isinstance(score, Score) or score.evaluation is None:
            continue
        evaluation = score.evaluation
        yield f"documents of {name}", _short(evaluation.documents or "unknown")
        yield f"number of documents of {name}", str(evaluation.num_documents)
        yield f"protocol of {name}", evaluation.protocol
        for package in ("lm-eval", "evalplus"):
            yield f"{package} for {name}", evaluation.versions.get(package, "unknown")


def _different(aspect: str, found: Sequence[tuple[int, str]]) -> Iterator[tuple[str, list[int]]]:
    """A note for every value but the most common, and its rows."""
    counts = Counter(value for _, value in found)
    usual, *others = [value for value, _ in counts.most_common()]
    for value in others:
        rows = [i for i, own in found if own == value]
        yield f"{aspect}: {value}, where most have {usual}", rows


def _asked_otherwise(subjects: Sequence[RunOutcome], benchmarks: Sequence[str]) -> Iterator[str]:
    for subject in subjects:
        for name in benchmarks if subject.result else ():
            score = subject.score(name)
            if isinstance(score, Score) and score.otherwise:
                yield f"{name} was asked otherwise than this experiment does: {score.otherwise}"


def _facts(filled: FilledTable) -> Iterator[str]:
    trained = {s.key: s for each in filled.subjects for s in each if s.result and not s.base}
    ways: dict[str, list[RunOutcome]] = {}
    for subject in trained.values():
        assert subject.result is not None
        ways.setdefault(_way(subject.result), []).append(subject)
    for way, subjects in ways.items():
        yield f"trained in {way}: {_some(subjects, len(trained))}"
    for text, subjects in _deviations(trained.values()).items():
        yield f"{text}: {_some(subjects, len(trained))}"
    codes = Counter(_code(s.result) for s in trained.values() if s.result)
    if codes:
        code, count = codes.most_common(1)[0]
        yield f"code: {code}" if len(codes) == 1 else f"code of most ({count}): {code}"


def _deviations(subjects: Iterable[RunOutcome]) -> dict[str, list[RunOutcome]]:
    """What ran otherwise than it was asked for, as the runs recorded it."""
    found: dict[str, list[RunOutcome]] = {}
    for subject in subjects:
        for text in subject.result.deviations if subject.result else ():
            found.setdefault(f"deviation: {text}", []).append(subject)
    return found


def _way(result: Result) -> str:
    devices = f"{result.devices} devices" if (result.devices or 1) > 1 else "one device"
    return f"{result.precision or 'an unknown precision'} on {devices}"


def _some(subjects: Sequence[RunOutcome], total: int) -> str:
    if len(subjects) == total:
        return "all runs" if total > 1 else "the one run"
    models = list(dict.fromkeys(s.run.model.name for s in subjects))
    return f"{len(subjects)} of {total} runs ({', '.join(models)})"


def _code(result: Result) -> str:
    version = f"alps {result.versions.get('alps', 'unknown')}"
    if result.git_commit is None:
        return version
    changed = ", with changes that are in no commit" if result.git_dirty else ""
    return f"{version}, commit {result.git_commit[:SHOWN_HASH]}{changed}"


def _short(text: str) -> str:
    """Hashes by their first characters; what is no hash stays readable."""
    words = text.split()
    return " ".join(w if "@" in w or len(w) < 2 * SHOWN_HASH else w[:SHOWN_HASH] for w in words)
