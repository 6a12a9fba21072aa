"""Benchmarks that EvalPlus judges: HumanEval, HumanEval+, MBPP and MBPP+."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from alps.base.hashing import digest, file_hash
from alps.evals.context import BenchmarkResult, EvaluationContext, Uncertainty
from alps.evals.evalplus.problems import RELEASES, Dataset, Problems, Row, released
from alps.evals.evalplus.prompts import ask, program, stops
from alps.settings.interfaces import Benchmark

if TYPE_CHECKING:
    from alps.evals.engine.language_model import LanguageModel
    from alps.evals.evalplus.scoring import Judged
    from alps.evals.statistics import DocumentScores

METRIC = "pass@1"
STOCK_METRIC = "stock_pass@1"
"""By EvalPlus' own verdicts, which fail HumanEval/32 whatever the answer."""

EVALPLUS = "0.3.1"
PROTOCOLS = ("alpaca", "plain", "meta")


@dataclass(frozen=True, kw_only=True)
class CodeBenchmark(Benchmark):
    """One greedy answer a problem, run on EvalPlus' tests in a sandbox and judged by its rules.

    Attributes:
        max_new_tokens: Longest answer.
    """

    max_new_tokens: int = 768
    runs_generated_code: bool = True

    def problems(self) -> Iterator[str]:
        """Sentences about settings that cannot be used."""
        yield from super().problems()
        if self.max_new_tokens < 1:
            yield f"max_new_tokens of benchmark {self.name} must be at least 1"
        if self.protocol not in PROTOCOLS:
            yield (
                f"benchmark {self.name} can be asked under the protocols {', '.join(PROTOCOLS)}, "
                f"not {self.protocol}"
            )

    @abstractmethod
    def read(self, data_dir: Path | None) -> Problems:
        """The problems to solve.

        Raises:
            ValueError: If they are missing or damaged; one sentence.
        """

    @abstractmethod
    def prompt(self, row: Row, lm: LanguageModel, context: EvaluationContext) -> str:
        """How a problem is asked."""

    @abstractmethod
    def ends(self) -> list[str]:
        """Texts that end an answer."""

    def protected(self) -> bool:
        """Whether there is a sandbox here."""
        from alps.evals.sandbox.sandbox import find

        return find() is not None

    @property
    def needs_added_tests(self) -> bool:
        """Whether the tests that EvalPlus added must pass too."""
        return False

    @property
    def has_added_tests(self) -> bool:
        """Whether the problems have such tests."""
        return True

    def ready(self, data_dir: Path | None) -> None:
        """Refuses another EvalPlus, which asks and judges otherwise, and missing problems."""
        try:
            found = version("evalplus")
        except PackageNotFoundError:
            found = "none"
        if found != EVALPLUS:
            raise ValueError(
                f"benchmark {self.name} needs evalplus {EVALPLUS}, found {found}: run `pip install "
                f"evalplus=={EVALPLUS}`"
            )
        self.read(data_dir)

    def evaluate(self, context: EvaluationContext) -> BenchmarkResult | None:
        """Asks on all ranks; rank 0 has the programs judged and keeps them."""
        from alps.evals.evalplus.scoring import score

        problems = self.read(context.data_dir)
        context = replace(context, folder=self.folder(context.folder))
        lm = context.language_model(self.protocol, self.name)
        programs = self._programs(problems, lm, context)
        if programs is None:
            return None
        base_only = not self.has_added_tests
        judged = score(
            problems,
            programs,
            context.folder,
            base_only,
            allow_unsafe=context.allow_unsafe_code,
            progress=context.progress,
        )
        return self._card(problems, judged, lm.details())

    def folder(self, own: Path) -> Path:
        """Where answers and samples are kept."""
        return own

    def document_scores(self, folder: Path) -> DocumentScores | None:
        """From the verdicts, whose file the base and the plus benchmark share."""
        from alps.evals.evalplus.scoring import Judged
        from alps.evals.statistics import DocumentScores, Ratio

        notes = json.loads((self.folder(folder) / "verdicts.json").read_text())["notes"]
        if not notes:
            return None
        notes = {task: notes[task] for task in sorted(notes)}
        passed = Judged({}, notes, "").passed(plus=self.needs_added_tests)
        part = Ratio([float(right) for right in passed.values()])
        return DocumentScores(pool=digest(list(passed)), ratios=(part,))

    def _programs(
        self, problems: Problems, lm: LanguageModel, context: EvaluationContext
    ) -> dict[str, str] | None:
        """Task -> program before it is sanitized; None on ranks other than 0."""
        from lm_eval.api.instance import Instance

        mine = problems.rows[lm.rank :: lm.world_size]
        ends = self.ends()
        options = {"until": ends, "max_gen_toks": self.max_new_tokens, "do_sample": False}
        requests = [
            Instance("generate_until", {}, (self.prompt(row, lm, context), dict(options)), number)
            for number, row in enumerate(mine)
        ]
        answers = lm.generate_until(requests)
        own = {
            row["task_id"]: program(self.protocol, row["prompt"], answer, ends)
            for row, answer in zip(mine, answers, strict=True)
        }
        gathered = lm.gather_object(own)
        if lm.rank != 0:
            return None
        assert gathered is not None
        return {task: text for part in gathered for task, text in part.items()}

    def _card(
        self, problems: Problems, judged: Judged, asked: Mapping[str, Any]
    ) -> BenchmarkResult:
        from alps.evals.statistics import Ratio, uncertainty

        passed = judged.passed(plus=self.needs_added_tests)
        verdicts = [float(right) for right in passed.values()]
        sure: Uncertainty | None = uncertainty(Ratio(verdicts))
        return BenchmarkResult(
            metrics={METRIC: sum(verdicts) / len(verdicts)},
            uncertainty={} if sure is None else {METRIC: sure},
            num_documents=len(verdicts),
            details={**self._details(problems, judged, passed), **asked},
        )

    def _details(
        self, problems: Problems, judged: Judged, passed: Mapping[str, bool]
    ) -> dict[str, Any]:
        notes = judged.notes
        failed = Counter(str(notes[task]["reason"]) for task, right in passed.items() if not right)
        stock = judged.passed_in_evalplus(plus=self.needs_added_tests)
        return {
            "problems": problems.label,
            "problems_md5": problems.md5,
            "evalplus": EVALPLUS,
            "sandbox": judged.sandbox,
            STOCK_METRIC: sum(stock.values()) / len(stock),
            "other_in_evalplus": sorted(t for t, right in passed.items() if right != stock[t]),
            "passed": sum(passed.values()),
            "failed": dict(failed.most_common()),
            "timeouts": failed["too slow"],
            "judged_again": sorted(t for t, note in notes.items() if note["judged_again"]),
            "not_sanitized": sorted(t for t, note in notes.items() if not note["sanitized"]),
        }


@dataclass(frozen=True, kw_only=True)
class EvalPlus(CodeBenchmark):
    """HumanEval or MBPP, with or without the tests that EvalPlus added.

    The base and the plus benchmark ask the same questions, so they share a folder, its answers and
    its verdicts: who runs both generates and judges once.

    Attributes:
        dataset: `humaneval` or `mbpp`.
        tests: `base`, or `plus` for those and the added ones.
    """

    dataset: Dataset
    tests: Literal["base", "plus"]

    @property
    def needs_added_tests(self) -> bool:
        """Under `tests=plus`."""
        return self.tests == "plus"

    def read(self, data_dir: Path | None) -> Problems:
        """HumanEval+ or MBPP+, of which the base benchmark is a part."""
        return released(self.dataset, data_dir, self.limit)

    def prompt(self, row: Row, lm: LanguageModel, context: EvaluationContext) -> str:
        """As EvalPlus asks."""
        return ask(self.protocol, row["prompt"], lm, context.tokenizer)

    def ends(self) -> list[str]:
        """As EvalPlus ends an answer."""
        return stops(self.protocol, self.dataset)

    def folder(self, own: Path) -> Path:
        """`evals/<dataset>/<protocol>`, whether the base or the plus benchmark asks."""
        return own.parents[1] / self.dataset / own.name

    def fetch(self, data_dir: Path | None) -> str:
        """Downloads EvalPlus' release, or checks the local file."""
        problems = self.read(data_dir)
        return f"{len(problems.rows)} problems, {problems.label}"

    def fingerprint(self, data_dir: Path | None) -> str | None:
        """Hash of the file, or name and version of the release."""
        release = RELEASES[self.dataset]
        if data_dir is None:
            return f"{release.asset}@{release.version}"
        path = data_dir / release.file
        return file_hash(path) if path.is_file() else None
