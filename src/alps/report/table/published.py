"""What a published table is made of: its runs and the score of every document, in two files.

`alps report ... to=FOLDER` writes them beside the table, `alps report from=FOLDER` makes the table
again from them alone. A run is found by its row, data and seed, so that a later version of this
code, which gives runs other keys, still reads them.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from alps.base.atomic import replacing, write_json
from alps.evals.statistics import DocumentScores, Part
from alps.report.outcomes import MissingScore, OutcomeReader, RunOutcome, Score
from alps.report.run_kind import BASE
from alps.report.table.cells import FilledTable
from alps.report.table.layout import Row
from alps.runs.evaluation import Evaluation
from alps.runs.folder import RunFolder
from alps.runs.result import Result
from alps.settings.run import Run

RUNS, DOCUMENTS = "runs.json", "documents.csv.gz"
FIELDS = ("run", "benchmark", "part", "document", "group", "numerator", "denominator")
"""Columns of `documents.csv.gz`; a metric is a mean over groups and parts of ratios of sums."""

Place = tuple[str, str, int | None]
"""Label of a row, data, and seed (none for a model as it is)."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published table, read back.

    Attributes:
        experiment: Its name.
        settings: Of its grid.
        read: Gives its runs.
    """

    experiment: str
    settings: tuple[str, ...]
    read: OutcomeReader


def publish(
    experiment: str, settings: Sequence[str], filled: FilledTable, folder: Path
) -> tuple[Path, Path]:
    """Writes `runs.json` and `documents.csv.gz`; the same table is the same bytes.

    Args:
        experiment: Its name.
        settings: Of its grid, those of the machine left out.
        filled: The table.
        folder: Receives the files.

    Returns:
        Their paths.
    """
    benchmarks = dict.fromkeys(b for c in filled.layout.columns for b in c.benchmarks)
    records, lines = [], io.StringIO(newline="")
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(FIELDS)
    written: set[str] = set()
    for (row, _), subjects in zip(filled.lines(), filled.subjects, strict=True):
        for subject in subjects:
            records.append(_record(row, subject, list(benchmarks)))
            if subject.key not in written:
                writer.writerows(_documents(subject, list(benchmarks)))
            written.add(subject.key)
    paths = folder / RUNS, folder / DOCUMENTS
    write_json(paths[0], {"experiment": experiment, "settings": list(settings), "runs": records})
    with replacing(paths[1]) as temporary:
        temporary.write_bytes(gzip.compress(lines.getvalue().encode(), mtime=0))
    return paths


def read_published(folder: Path) -> Published:
    """The table that a folder holds.

    Raises:
        ValueError: If it holds none, or files of another form; one sentence.
    """
    try:
        plain = json.loads((folder / RUNS).read_text())
        with gzip.open(folder / DOCUMENTS, "rt", encoding="utf-8", newline="") as file:
            parts = _parts(csv.DictReader(file))
        records = {_place_of(record): _kept(record, parts) for record in plain["runs"]}
        return Published(
            experiment=plain["experiment"],
            settings=tuple(plain["settings"]),
            read=lambda row, run: _Published(run, row, records),
        )
    except FileNotFoundError as error:
        raise ValueError(
            f"{folder} holds no published table ({Path(error.filename).name} is missing): "
            "`alps report experiment=... to=FOLDER` writes one"
        ) from None
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"the table in {folder} cannot be read ({error!r})") from None


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """What is kept of a run."""

    key: str
    result: Result | None
    gap: MissingScore | None
    scores: Mapping[str, Score | MissingScore]


def _kept(
    record: Mapping[str, Any], parts: Mapping[tuple[str, str], Sequence[Mapping[str, list]]]
) -> _Kept:
    key, result, gap = record["key"], record["result"], record["gap"]
    return _Kept(
        key=key,
        result=Result(**_known(Result, result)) if result else None,
        gap=MissingScore(**_known(MissingScore, gap)) if gap or not result else None,
        scores={
            name: MissingScore(**_known(MissingScore, score["gap"]))
            if "gap" in score
            else _score(score, parts.get((key, name)))
            for name, score in record["scores"].items()
        },
    )


class _Published(RunOutcome):
    """A run as `runs.json` and `documents.csv.gz` have it."""

    def __init__(self, run: Run, row: Row, records: Mapping[Place, _Kept]):
        """Of a run of a row."""
        self.run, self.base = run, row.kind.method == BASE
        kept = records.get(_place(row, run, self.base))
        self.key = kept.key if kept else run.base_data_key if self.base else run.key
        self.folder = RunFolder(Path(run.output_dir) / "published" / self.key)
        self.result = kept.result if kept else None
        self.gap = kept.gap if kept else self._gap("missing", "it is not in the published table")
        self._scores = dict(kept.scores) if kept else {}


def _record(row: Row, subject: RunOutcome, benchmarks: Sequence[str]) -> dict[str, Any]:
    label, data, seed = _place(row, subject.run, subject.base)
    scores = {name: subject.score(name) for name in benchmarks} if subject.result else {}
    return {
        "row": label,
        "data": data,
        "seed": seed,
        "key": subject.key,
        "result": asdict(replace(subject.result, uncertainty={})) if subject.result else None,
        "gap": asdict(subject.gap) if subject.gap else None,
        "scores": {
            name: {"gap": asdict(score)} if isinstance(score, MissingScore) else _plain(score)
            for name, score in scores.items()
        },
    }


def _plain(score: Score) -> dict[str, Any]:
    """A score without the documents' own numbers."""
    found = score.documents
    own = {f.name: getattr(score, f.name) for f in fields(score)}
    evaluation = None
    if score.evaluation is not None:  # what no table asks for stays with the run
        evaluation = asdict(replace(score.evaluation, details={}, generation={}, uncertainty={}))
    if found is not None:  # from which the interval follows
        own |= {"low": None, "high": None}
    documents = {"pool": found.pool, "shares": [p.share for p in found.parts]} if found else None
    return {**own, "evaluation": evaluation, "documents": documents}


def _score(plain: Mapping[str, Any], parts: Sequence[Mapping[str, list]] | None) -> Score:
    asked, documents = plain["documents"], None
    if asked is not None:
        if parts is None:
            raise ValueError(f"{DOCUMENTS} has no documents of a score in {RUNS}")
        made = [
            Part(part["numerator"], part["denominator"], share=share)
            for part, share in zip(parts, asked["shares"], strict=True)
        ]
        groups = parts[0]["group"] if any(parts[0]["group"]) else None
        documents = DocumentScores(pool=asked["pool"], parts=tuple(made), groups=groups)
    found = plain["evaluation"]
    evaluation = None if found is None else Evaluation(**_known(Evaluation, found))
    own = {**_known(Score, plain), "documents": documents, "evaluation": evaluation}
    return Score(**own)


def _documents(subject: RunOutcome, benchmarks: Sequence[str]) -> Iterator[tuple]:
    """Lines of `documents.csv.gz`."""
    for name in benchmarks if subject.result else ():
        score = subject.score(name)
        found = score.documents if isinstance(score, Score) else None
        for number, part in enumerate(found.parts if found else ()):
            assert found is not None
            above, below = (map(_number, array.tolist()) for array in part.arrays())
            groups = found.groups or [""] * len(part.arrays()[0])
            for i, (a, b, group) in enumerate(zip(above, below, groups, strict=True)):
                yield subject.key, name, number, i, group, a, b


def _parts(lines: Iterator[Mapping[str, str]]) -> dict[tuple[str, str], list[dict[str, list]]]:
    """Run and benchmark -> columns of each part."""
    found: dict[tuple[str, str], list[dict[str, list]]] = defaultdict(list)
    for line in lines:
        parts = found[line["run"], line["benchmark"]]
        if int(line["part"]) == len(parts):
            parts.append({"group": [], "numerator": [], "denominator": []})
        own = parts[int(line["part"])]
        own["group"].append(line["group"])
        own["numerator"].append(float(line["numerator"]))
        own["denominator"].append(float(line["denominator"]))
    return dict(found)


def _place(row: Row, run: Run, base: bool) -> Place:
    return row.label, run.data.name, None if base else run.seed


def _place_of(record: Mapping[str, Any]) -> Place:
    return record["row"], record["data"], record["seed"]


def _known(cls: type, plain: Mapping[str, Any]) -> dict[str, Any]:
    """What this version knows of; a later one may have written more."""
    names = {f.name for f in fields(cls)}
    return {name: value for name, value in plain.items() if name in names}


def _number(value: float) -> int | float:
    """Without a decimal point where there is nothing behind it."""
    return int(value) if value.is_integer() else value
