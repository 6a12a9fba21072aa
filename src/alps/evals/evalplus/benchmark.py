"""EvalPlus' code benchmarks: HumanEval, HumanEval+, MBPP and MBPP+."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from alps.base.hashing import digest, file_hash
from alps.evals.context import BenchmarkResult, EvaluationContext
from alps.evals.evalplus.problems import RELEASES, Dataset, Problem, ProblemSet, load_release
from alps.evals.evalplus.prompts import extract_program, format_prompt, stop_sequences
from alps.settings.interfaces import Benchmark

if TYPE_CHECKING:
    from alps.evals.engine.language_model import LanguageModel
    from alps.evals.evalplus.verdicts import Verdicts
    from alps.evals.statistics import DocumentScores

METRIC = "pass@1"
STOCK_METRIC = "stock_pass@1"
"""From EvalPlus' own verdicts, under which HumanEval/32 always fails."""

EVALPLUS = "0.3.1"
PROTOCOLS = ("alpaca", "plain", "meta")


@dataclass(frozen=True, kw_only=True)
class CodeBenchmark(Benchmark):
    """One greedy answer per problem, run on EvalPlus' tests in a sandbox and judged by its rules.

    Attributes:
        max_new_tokens: Maximum tokens of an answer.
    """

    base_only: ClassVar[bool] = False
    """Whether the problems have no tests that EvalPlus added."""

    max_new_tokens: int = 768
    runs_generated_code: bool = True

    def problems(self) -> Iterator[str]:
        """Errors in the settings, one sentence each."""
        yield from super().problems()
        if self.max_new_tokens < 1:
            yield f"max_new_tokens of benchmark {self.name} must be at least 1"
        if self.protocol not in PROTOCOLS:
            yield (
                f"benchmark {self.name} can be asked under the protocols {', '.join(PROTOCOLS)}, "
                f"not {self.protocol}"
            )

    @abstractmethod
    def load_problems(self, data_dir: Path | None) -> ProblemSet:
        """The problems to solve.

        Raises:
            ValueError: If they are missing or damaged; one sentence.
        """

    @abstractmethod
    def prompt(self, problem: Problem, lm: LanguageModel, context: EvaluationContext) -> str:
        """The prompt of a problem."""

    @abstractmethod
    def stop_sequences(self) -> list[str]:
        """Texts that end an answer."""

    def protected(self) -> bool:
        """Whether this machine has a sandbox."""
        from alps.evals.sandbox.availability import available_backend

        return available_backend() is not None

    @property
    def needs_plus_tests(self) -> bool:
        """Whether a program must also pass the tests that EvalPlus added."""
        return False

    def ready(self, data_dir: Path | None) -> None:
        """Checks the problems and EvalPlus' version, on which prompts and verdicts depend."""
        try:
            installed = version("evalplus")
        except PackageNotFoundError:
            installed = "none"
        if installed != EVALPLUS:
            raise ValueError(
                f"benchmark {self.name} needs evalplus {EVALPLUS}, found {installed}: run `pip "
                f"install evalplus=={EVALPLUS}`"
            )
        self.load_problems(data_dir)

    def evaluate(self, context: EvaluationContext) -> BenchmarkResult | None:
        """Generates programs on all ranks; rank 0 judges and saves them."""
        from alps.evals.evalplus.scoring import score

        problem_set = self.load_problems(context.data_dir)
        context = replace(context, folder=self.folder(context.folder))
        lm = context.language_model(self.protocol, self.name)
        programs = self._generate_programs(problem_set, lm, context)
        if programs is None:
            return None
        verdicts = score(
            problem_set,
            programs,
            context.folder,
            self.base_only,
            allow_unsafe=context.allow_unsafe_code,
            progress=context.progress,
        )
        return self._result(problem_set, verdicts, lm.details())

    def folder(self, own: Path) -> Path:
        """Folder of answers, samples and verdicts; `own` unless benchmarks share one."""
        return own

    def document_scores(self, folder: Path) -> DocumentScores | None:
        """From the verdicts, whose file the base and the plus benchmark share."""
        from alps.evals.evalplus.verdicts import Verdicts
        from alps.evals.statistics import DocumentScores, Ratio

        notes = json.loads((self.folder(folder) / "verdicts.json").read_text())["notes"]
        if not notes:
            return None
        notes = {task: notes[task] for task in sorted(notes)}
        passed = Verdicts({}, notes, "").passed(plus=self.needs_plus_tests)
        part = Ratio([float(value) for value in passed.values()])
        return DocumentScores(pool=digest(list(passed)), ratios=(part,))

    def _generate_programs(
        self, problem_set: ProblemSet, lm: LanguageModel, context: EvaluationContext
    ) -> dict[str, str] | None:
        """Task -> program before it is sanitized; None on ranks other than 0."""
        from lm_eval.api.instance import Instance

        problems = problem_set.problems[lm.rank :: lm.world_size]
        stop = self.stop_sequences()
        options = {"until": stop, "max_gen_toks": self.max_new_tokens, "do_sample": False}
        requests = [
            Instance("generate_until", {}, (self.prompt(p, lm, context), dict(options)), number)
            for number, p in enumerate(problems)
        ]
        answers = lm.generate_until(requests)
        programs = {
            p["task_id"]: extract_program(self.protocol, p["prompt"], answer, stop)
            for p, answer in zip(problems, answers, strict=True)
        }
        gathered = lm.gather_object(programs)
        if lm.rank != 0:
            return None
        assert gathered is not None
        return {task: program for part in gathered for task, program in part.items()}

    def _result(
        self, problem_set: ProblemSet, verdicts: Verdicts, generation: Mapping[str, Any]
    ) -> BenchmarkResult:
        from alps.evals.statistics import Ratio, uncertainty

        passed = verdicts.passed(plus=self.needs_plus_tests)
        scores = [float(value) for value in passed.values()]
        spread = uncertainty(Ratio(scores))
        return BenchmarkResult(
            metrics={METRIC: sum(scores) / len(scores)},
            uncertainty={} if spread is None else {METRIC: spread},
            num_documents=len(scores),
            details={**self._details(problem_set, verdicts, passed), **generation},
        )

    def _details(
        self, problem_set: ProblemSet, verdicts: Verdicts, passed: Mapping[str, bool]
    ) -> dict[str, Any]:
        notes = verdicts.notes
        failed = Counter(str(notes[task]["reason"]) for task, value in passed.items() if not value)
        stock = verdicts.passed_in_evalplus(plus=self.needs_plus_tests)
        return {
            "problems": problem_set.label,
            "problems_md5": problem_set.md5,
            "evalplus": EVALPLUS,
            "sandbox": verdicts.sandbox,
            STOCK_METRIC: sum(stock.values()) / len(stock),
            "other_in_evalplus": sorted(t for t, value in passed.items() if value != stock[t]),
            "passed": sum(passed.values()),
            "failed": dict(failed.most_common()),
            "timeouts": failed["too slow"],
            "judged_again": sorted(t for t, note in notes.items() if note["judged_again"]),
            "not_sanitized": sorted(t for t, note in notes.items() if not note["sanitized"]),
        }


@dataclass(frozen=True, kw_only=True)
class EvalPlus(CodeBenchmark):
    """HumanEval or MBPP, with or without the tests that EvalPlus added.

    The base and the plus benchmark have the same prompts and share a folder, so a run with both
    generates and judges once.

    Attributes:
        dataset: `humaneval` or `mbpp`.
        tests: `base`, or `plus` for the base tests and the added ones.
    """

    dataset: Dataset
    tests: Literal["base", "plus"]

    @property
    def needs_plus_tests(self) -> bool:
        """Under `tests=plus`."""
        return self.tests == "plus"

    def load_problems(self, data_dir: Path | None) -> ProblemSet:
        """HumanEval+ or MBPP+, which contain the base tests too."""
        return load_release(self.dataset, data_dir, self.limit)

    def prompt(self, problem: Problem, lm: LanguageModel, context: EvaluationContext) -> str:
        """EvalPlus' prompt."""
        return format_prompt(self.protocol, problem["prompt"], lm, context.tokenizer)

    def stop_sequences(self) -> list[str]:
        """EvalPlus' stop sequences."""
        return stop_sequences(self.protocol, self.dataset)

    def folder(self, own: Path) -> Path:
        """`evals/<dataset>/<protocol>`, for both the base and the plus benchmark."""
        return own.parents[1] / self.dataset / own.name

    def fetch(self, data_dir: Path | None) -> str:
        """Downloads EvalPlus' release, or checks the local file."""
        problem_set = self.load_problems(data_dir)
        return f"{len(problem_set.problems)} problems, {problem_set.label}"

    def fingerprint(self, data_dir: Path | None) -> str | None:
        """Hash of the local file, or name and version of the release."""
        release = RELEASES[self.dataset]
        if data_dir is None:
            return f"{release.asset}@{release.version}"
        path = data_dir / release.file
        return file_hash(path) if path.is_file() else None
