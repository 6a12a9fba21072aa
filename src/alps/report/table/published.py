"""Published tables: the runs of a table and the scores of all documents, in two files.

`alps report ... to=FOLDER` writes them beside the table, and `alps report from=FOLDER` rebuilds the
table from them alone. A run is identified by row, data and seed, so later versions of this code,
in which runs have other keys, still read the files.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import chain
from pathlib import Path
from typing import Any

from alps.base.atomic import replacing, write_json
from alps.evals.statistics import DocumentScores, Ratio
from alps.report.outcomes import MissingScore, OutcomeReader, RunOutcome, Score
from alps.report.run_kind import BASE
from alps.report.table.cells import FilledTable
from alps.report.table.layout import Row
from alps.report.text_tables import csv_table
from alps.runs.evaluation import Evaluation
from alps.runs.folder import RunFolder
from alps.runs.result import Result
from alps.settings.run import Run

RUNS, DOCUMENTS = "runs.json", "documents.csv.gz"
FIELDS = ("run", "benchmark", "part", "document", "group", "numerator", "denominator")
"""Columns of `documents.csv.gz`; a metric is a mean over groups and parts of ratios of sums."""

RunId = tuple[str, str, int | None]
"""Label of the row, data, and seed (None for a base model)."""


@dataclass(frozen=True, kw_only=True)
class PublishedTable:
    """A published table.

    Attributes:
        experiment: Its name.
        settings: Of its grid.
        read: Reads the outcomes of its runs.
    """

    experiment: str
    settings: tuple[str, ...]
    read: OutcomeReader


def publish(
    experiment: str, settings: Sequence[str], filled: FilledTable, folder: Path
) -> tuple[Path, Path]:
    """Writes `runs.json` and `documents.csv.gz`; equal tables are equal bytes.

    Returns:
        Their paths.
    """
    benchmarks = list(dict.fromkeys(b for c in filled.layout.columns for b in c.benchmarks))
    records, documents = [], {}
    for (row, _), outcomes in zip(filled.rows(), filled.outcomes, strict=True):
        for outcome in outcomes:
            records.append(_record(row, outcome, benchmarks))
            if outcome.key not in documents:
                documents[outcome.key] = list(_documents(outcome, benchmarks))
    text = csv_table([FIELDS, *chain.from_iterable(documents.values())])
    paths = folder / RUNS, folder / DOCUMENTS
    write_json(paths[0], {"experiment": experiment, "settings": list(settings), "runs": records})
    with replacing(paths[1]) as temporary:
        temporary.write_bytes(gzip.compress(text.encode(), mtime=0))
    return paths


def read_published(folder: Path) -> PublishedTable:
    """Reads the published table of a folder.

    Raises:
        ValueError: If files are missing or malformed; one sentence.
    """
    try:
        plain = json.loads((folder / RUNS).read_text())
        with gzip.open(folder / DOCUMENTS, "rt", encoding="utf-8", newline="") as file:
            parts = _parts(csv.DictReader(file))
        records = {_id_of(record): _read_record(record, parts) for record in plain["runs"]}
        return PublishedTable(
            experiment=plain["experiment"],
            settings=tuple(plain["settings"]),
            read=lambda row, run: _PublishedOutcome(run, row, records),
        )
    except FileNotFoundError as error:
        raise ValueError(
            f"{folder} holds no published table ({Path(error.filename).name} is missing): "
            "`alps report experiment=... to=FOLDER` writes one"
        ) from None
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"the table in {folder} cannot be read ({error!r})") from None


@dataclass(frozen=True, kw_only=True)
class _Record:
    """The record of a run."""

    key: str
    result: Result | None
    gap: MissingScore | None
    scores: Mapping[str, Score | MissingScore]


def _read_record(
    record: Mapping[str, Any], parts: Mapping[tuple[str, str], Sequence[Mapping[str, list]]]
) -> _Record:
    key, result, gap = record["key"], record["result"], record["gap"]
    return _Record(
        key=key,
        result=Result(**_known(Result, result)) if result else None,
        gap=MissingScore(**_known(MissingScore, gap)) if gap or not result else None,
        scores={
            name: MissingScore(**_known(MissingScore, score["gap"]))
            if "gap" in score
            else _read_score(score, parts.get((key, name)))
            for name, score in record["scores"].items()
        },
    )


class _PublishedOutcome(RunOutcome):
    """An outcome read from `runs.json` and `documents.csv.gz`."""

    def __init__(self, run: Run, row: Row, records: Mapping[RunId, _Record]):
        """Looks up the record of a run."""
        self.run, self.base = run, row.kind.method == BASE
        record = records.get(_run_id(row, run, self.base))
        self.key = record.key if record else run.base_data_key if self.base else run.key
        self.folder = RunFolder(Path(run.output_dir) / "published" / self.key)
        self.result = record.result if record else None
        self.gap = (
            record.gap if record else self._gap("missing", "it is not in the published table")
        )
        self._scores = dict(record.scores) if record else {}


def _record(row: Row, outcome: RunOutcome, benchmarks: Sequence[str]) -> dict[str, Any]:
    label, data, seed = _run_id(row, outcome.run, outcome.base)
    scores = {name: outcome.score(name) for name in benchmarks} if outcome.result else {}
    return {
        "row": label,
        "data": data,
        "seed": seed,
        "key": outcome.key,
        "result": asdict(replace(outcome.result, uncertainty={})) if outcome.result else None,
        "gap": asdict(outcome.gap) if outcome.gap else None,
        "scores": {
            name: {"gap": asdict(score)}
            if isinstance(score, MissingScore)
            else _score_record(score)
            for name, score in scores.items()
        },
    }


def _score_record(score: Score) -> dict[str, Any]:
    """A score without the scores of its documents."""
    found = score.documents
    own = {f.name: getattr(score, f.name) for f in fields(score)}
    evaluation = None
    if score.evaluation is not None:  # without what no table shows
        evaluation = asdict(replace(score.evaluation, details={}, generation={}, uncertainty={}))
    if found is not None:  # the interval follows from them
        own |= {"low": None, "high": None}
    documents = (
        {"pool": found.pool, "shares": [p.proportion for p in found.ratios]} if found else None
    )
    return {**own, "evaluation": evaluation, "documents": documents}


def _read_score(plain: Mapping[str, Any], parts: Sequence[Mapping[str, list]] | None) -> Score:
    pool, documents = plain["documents"], None
    if pool is not None:
        if parts is None:
            raise ValueError(f"{DOCUMENTS} has no documents of a score in {RUNS}")
        ratios = [
            Ratio(part["numerator"], part["denominator"], proportion=share)
            for part, share in zip(parts, pool["shares"], strict=True)
        ]
        groups = parts[0]["group"] if any(parts[0]["group"]) else None
        documents = DocumentScores(pool=pool["pool"], ratios=tuple(ratios), groups=groups)
    found = plain["evaluation"]
    evaluation = None if found is None else Evaluation(**_known(Evaluation, found))
    own = {**_known(Score, plain), "documents": documents, "evaluation": evaluation}
    return Score(**own)


def _documents(outcome: RunOutcome, benchmarks: Sequence[str]) -> Iterator[tuple]:
    """Lines of `documents.csv.gz`."""
    for name in benchmarks if outcome.result else ():
        score = outcome.score(name)
        found = score.documents if isinstance(score, Score) else None
        for number, part in enumerate(found.ratios if found else ()):
            assert found is not None
            numerators, denominators = (map(_number, array.tolist()) for array in part.arrays())
            groups = found.groups or [""] * len(part.arrays()[0])
            for i, (a, b, group) in enumerate(zip(numerators, denominators, groups, strict=True)):
                yield outcome.key, name, number, i, group, a, b


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


def _run_id(row: Row, run: Run, base: bool) -> RunId:
    return row.label, run.data.name, None if base else run.seed


def _id_of(record: Mapping[str, Any]) -> RunId:
    return record["row"], record["data"], record["seed"]


def _known(cls: type, plain: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that this version knows; a later one may have written more."""
    names = {f.name for f in fields(cls)}
    return {name: value for name, value in plain.items() if name in names}


def _number(value: float) -> int | float:
    """Whole numbers as integers."""
    return int(value) if value.is_integer() else value
