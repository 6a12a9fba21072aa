"""The mini benchmarks: greedy answers to the embedded data's test rows, judged by rule.

The first metric a benchmark reports is its headline.
"""

from __future__ import annotations

import secrets
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from alps.data import mini_code, mini_general, mini_math
from alps.data.example import Example
from alps.evals.check_code import program, run_unprotected
from alps.evals.check_general import constraint_results
from alps.evals.check_math import exact_match
from alps.evals.subject import Scorecard, Subject
from alps.families import Benchmark

CODE_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class MiniBenchmark(Benchmark):
    """Asks in the template the model was trained on and judges each answer.

    Attributes:
        max_new_tokens: Longest answer.
    """

    max_new_tokens: int = 96

    @abstractmethod
    def documents(self) -> Iterator[Example]:
        """Questions with their checks."""

    @abstractmethod
    def judge(self, answer: str, check: Mapping[str, Any]) -> dict[str, float]:
        """Metric -> value of one answer; a benchmark's value is the mean over its documents."""

    def evaluate(self, subject: Subject) -> Scorecard:
        """Generates all answers, then judges them one by one."""
        from alps.evals.generate import generate

        documents = list(islice(self.documents(), self.limit))
        questions = [d.instruction for d in documents]
        answers = generate(subject, questions, self.max_new_tokens, title=self.name)
        verdicts = [
            self.judge(answer, d.check or {}) for answer, d in zip(answers, documents, strict=True)
        ]
        samples = [
            {"instruction": d.instruction, "reference": d.answer, "answer": answer, **verdict}
            for d, answer, verdict in zip(documents, answers, verdicts, strict=True)
        ]
        metrics = {name: sum(v[name] for v in verdicts) / len(verdicts) for name in verdicts[0]}
        return Scorecard(metrics=metrics, num_documents=len(documents), samples=samples)


@dataclass(frozen=True, kw_only=True)
class MiniMath(MiniBenchmark):
    """Word problems; the number after the last `####` must be right."""

    def documents(self) -> Iterator[Example]:
        """Test rows of mini_math."""
        return mini_math.examples("test")

    def judge(self, answer: str, check: Mapping[str, Any]) -> dict[str, float]:
        """Exact match of the final number."""
        return {"exact_match": float(exact_match(answer, check))}


@dataclass(frozen=True, kw_only=True)
class MiniGeneral(MiniBenchmark):
    """Instructions with verifiable constraints."""

    def documents(self) -> Iterator[Example]:
        """Test rows of mini_general."""
        return mini_general.examples("test")

    def judge(self, answer: str, check: Mapping[str, Any]) -> dict[str, float]:
        """Whether all constraints hold, and which share of them does."""
        kept = constraint_results(answer, check)
        return {"prompt_accuracy": float(all(kept)), "constraint_accuracy": sum(kept) / len(kept)}


@dataclass(frozen=True, kw_only=True)
class MiniCode(MiniBenchmark):
    """Small functions; their tests execute what the model wrote, without protection."""

    runs_generated_code: bool = True

    def documents(self) -> Iterator[Example]:
        """Test rows of mini_code."""
        return mini_code.examples("test")

    def judge(self, answer: str, check: Mapping[str, Any]) -> dict[str, float]:
        """Whether all tests pass."""
        token = secrets.token_hex(16)
        source = program(answer, check, token)
        return {"pass@1": float(run_unprotected(source, token, CODE_TIMEOUT_SECONDS))}
