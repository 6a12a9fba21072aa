"""Outcomes of runs: results and scores, or the reason why there are none."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from alps.base.serialization import from_dict, to_dict
from alps.evals.statistics import DocumentScores, Interval, deviations, point_estimate, uncertainty
from alps.report.run_kind import BASE
from alps.runs.completion import base_is_finished, base_result, is_finished
from alps.runs.evaluation import Evaluation, read_evaluation
from alps.runs.folder import RunFolder
from alps.runs.result import Result, RunFailed
from alps.settings.interfaces import Benchmark
from alps.settings.run import Run

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from alps.report.table.layout import Row

LONGEST = 40
"""Characters of a setting's value in a note."""

TOLERANCE = 1e-9
"""Between a headline metric and its value computed from documents."""

MissingStatus = Literal["missing", "running", "failed", "unreadable", "not evaluated"]


@dataclass(frozen=True, kw_only=True)
class MissingScore:
    """Why a score is missing.

    Attributes:
        key: Of the run.
        what: Description of the run.
        trouble: Status of the run or its evaluation.
        reason: One sentence, or empty.
        base_of: For a base model, the data in whose template it is evaluated.
    """

    key: str
    what: str
    trouble: MissingStatus
    reason: str = ""
    base_of: str | None = None


@dataclass(frozen=True, kw_only=True)
class Score:
    """The headline metric of a benchmark for one model.

    Attributes:
        value: As the benchmark reports it: a share, or a loss.
        low: Lower end of the 95 % interval over documents, or None.
        high: Its upper end.
        documents: Scores of the documents, where samples are kept.
        evaluation: The evaluation file, or None if only `result.json` has the score.
        otherwise: Benchmark settings that differ from the experiment's, or empty.
    """

    value: float
    low: float | None = None
    high: float | None = None
    documents: DocumentScores | None = None
    evaluation: Evaluation | None = None
    otherwise: str = ""

    @cached_property
    def deviations(self) -> NDArray[np.float64] | None:
        """Deviations of its documents, or None if they are unknown."""
        own = self.documents
        return deviations(*own.ratios, groups=own.groups) if own else None

    @property
    def interval(self) -> Interval | None:
        """The 95 % interval over documents."""
        low, high = self.low, self.high
        if self.documents:
            found = uncertainty(*self.documents.ratios, groups=self.documents.groups)
            low, high = (found.low, found.high) if found else (None, None)
        return None if low is None or high is None else Interval(low, high)


class RunOutcome:
    """The outcome of a run or of its base model's evaluation; each file is read once."""

    def __init__(self, run: Run, base: bool = False):
        """Reads the run's result, or with `base` that of its base model."""
        self.run, self.base = run, base
        self.folder = RunFolder(run.base_folder if base else run.folder)
        self.key = run.base_data_key if base else run.key
        self.result, self.gap = self._read()
        self._scores: dict[str, Score | MissingScore] = {}

    @property
    def description(self) -> str:
        """Method, model, data and seed in words."""
        run = self.run
        if self.base:
            return f"{run.model.name} as it is, asked in the template of {run.data.name}"
        ratio = getattr(run.method, "ratio", None)
        share = f" {100 * ratio:g}%" if ratio is not None else ""
        return f"{run.method.name}{share}, {run.model.name}, {run.data.name}, seed {run.seed}"

    def score(self, benchmark: str) -> Score | MissingScore:
        """The headline metric of a benchmark, or why it is missing."""
        if benchmark not in self._scores:
            self._scores[benchmark] = self._score(benchmark)
        return self._scores[benchmark]

    def _score(self, name: str) -> Score | MissingScore:
        if self.result is None:
            assert self.gap is not None
            return self.gap
        asked = next((b for b in self.run.evals.benchmarks if b.name == name), None)
        try:
            folder = self._folder(name)
            found = read_evaluation(folder, name, asked.protocol) if asked else self._any(name)
        except RunFailed as error:
            return self._gap("unreadable", str(error))
        if found is not None:
            if not found.metrics:
                return self._gap("not evaluated", f"{name} gave no number")
            metric, value = next(iter(found.metrics.items()))
            interval = found.uncertainty.get(metric, {})
            return Score(
                value=value,
                low=interval.get("low"),
                high=interval.get("high"),
                documents=document_scores(folder, found),
                evaluation=found,
                otherwise=_differing_settings(asked, found, self.run.evals.precision),
            )
        values = self.result.evals.get(name)
        if values and not (folder.path / "evals" / name).exists():  # else of another protocol
            metric, value = next(iter(values.items()))
            interval = self.result.uncertainty.get(name, {}).get(metric, {})
            return Score(value=value, low=interval.get("low"), high=interval.get("high"))
        return self._gap("not evaluated", f"{name} was not asked")

    def _folder(self, name: str) -> RunFolder:
        """Folder of a benchmark; with base models, data that it reads have one of their own."""
        own = RunFolder(self.run.base_data_folder)
        shared = (self.folder.path / "evals" / name).exists()
        return own if self.base and not shared else self.folder

    def _any(self, name: str) -> Evaluation | None:
        """The only evaluation of a benchmark that is not in the grid, or None."""
        folder = self._folder(name)
        protocols = [p.stem for p in (folder.path / "evals" / name).glob("*.json")]
        return read_evaluation(folder, name, protocols[0]) if len(protocols) == 1 else None

    def _read(self) -> tuple[Result | None, MissingScore | None]:
        status = self.folder.status()
        state, reason = status["state"], status["reason"] or ""
        if state == "failed" and not self._is_complete():
            return None, self._gap("failed", reason)
        try:
            if (result := self._result()) is not None:
                return result, None
        except RunFailed as error:
            return None, self._gap("unreadable", str(error))
        if state == "running":
            return None, self._gap("running", "another process is at it")
        return None, self._gap("missing", reason)

    def _result(self) -> Result | None:
        if self.base:
            return base_result(self.run)
        path = self.folder.result_path
        return Result.read(path) if path.exists() else None

    def _is_complete(self) -> bool:
        """Whether all evaluations of this experiment exist, so only others failed."""
        try:
            done = base_is_finished(self.run) if self.base else is_finished(self.run, self.folder)
            asked = {b.name for b in self.run.evals.benchmarks}
            result = self._result()
            return done and result is not None and asked <= set(result.evals)
        except Exception:  # a damaged file hides no failure
            return False

    def _gap(self, trouble: MissingStatus, reason: str) -> MissingScore:
        return MissingScore(
            key=self.key,
            what=self.description,
            trouble=trouble,
            reason=reason,
            base_of=self.run.data.name if self.base else None,
        )


OutcomeReader: TypeAlias = "Callable[[Row, Run], RunOutcome]"
"""Reads the outcome of a run of a row."""


def outcome_reader() -> OutcomeReader:
    """A reader of run folders; each is read once."""
    known: dict[str, RunOutcome] = {}

    def read(row: Row, run: Run) -> RunOutcome:
        base = row.kind.method == BASE
        key = run.base_data_key if base else run.key
        if key not in known:
            known[key] = RunOutcome(run, base)
        return known[key]

    return read


def document_scores(folder: RunFolder, evaluation: Evaluation) -> DocumentScores | None:
    """The headline metric of an evaluation by document.

    Returns:
        None if no samples are kept, or if they do not reproduce the metric.
    """
    own = folder.evaluation_path(evaluation.name, evaluation.protocol).with_suffix("")
    try:
        benchmark = from_dict(evaluation.benchmark, Benchmark, check=False)
        found = benchmark.document_scores(own)
    except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, zlib.error):
        return None
    if found is None or not evaluation.metrics:
        return None
    headline = next(iter(evaluation.metrics.values()))
    same = abs(point_estimate(*found.ratios, groups=found.groups) - headline) < TOLERANCE
    return found if same else None  # samples of another evaluation under the same name


def _differing_settings(asked: Benchmark | None, found: Evaluation, precision: str) -> str:
    """Settings in which an evaluation differs from the experiment's benchmark and precision."""
    if asked is None:
        return ""
    wanted = json.loads(json.dumps(to_dict(asked)))  # as the file has it
    names = [n for n in wanted if wanted[n] != found.benchmark.get(n)]
    differing = [_setting(n, found.benchmark) for n in names]
    if precision not in ("auto", found.precision):
        differing.append(f"precision={found.precision}")
    return ", ".join(differing)


def _setting(name: str, recorded: Mapping[str, Any]) -> str:
    """A setting with its value, if that is known and short."""
    if name not in recorded:
        return f"{name} was not recorded"
    value = recorded[name]
    short = value is None or (isinstance(value, int | float | str) and len(str(value)) < LONGEST)
    return f"{name}={value}" if short else name
