"""The mini benchmark of code: rows of `alps.data.generators.mini_code` as EvalPlus problems."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from alps.data.example import Example
from alps.data.generators import mini_code
from alps.evals.context import EvaluationContext
from alps.evals.evalplus.benchmark import CodeBenchmark
from alps.evals.evalplus.problems import Problems, Row, subset
from alps.evals.evalplus.prompts import as_codegen_has_it, instruction_stops, stops

if TYPE_CHECKING:
    from alps.evals.engine.language_model import LanguageModel

FENCES = ("```python\n", "\n```")


@dataclass(frozen=True, kw_only=True)
class MiniCode(CodeBenchmark):
    """Small functions, asked for in the words of the training rows.

    What counts as equal is EvalPlus' `==`: True passes for 1 and 2.0 for 2.
    """

    max_new_tokens: int = 96

    @property
    def has_added_tests(self) -> bool:
        """All tests of these problems are base tests."""
        return False

    def read(self, data_dir: Path | None) -> Problems:
        """The first test rows; they need no file."""
        rows = enumerate(islice(mini_code.examples("test"), self.limit))
        problems = tuple(problem(example, number) for number, example in rows)
        return subset("humaneval", f"mini_code {mini_code.VERSION}", problems)

    def prompt(self, row: Row, lm: LanguageModel, context: EvaluationContext) -> str:
        """The row's instruction as the model was trained on it; under `plain` its code alone."""
        if self.protocol == "plain":
            return as_codegen_has_it(row["prompt"])
        return lm.apply_chat_template([{"role": "user", "content": row["instruction"]}])

    def ends(self) -> list[str]:
        """EvalPlus' for all models: a fence may begin an answer here, so it ends none."""
        return stops("plain", "humaneval") if self.protocol == "plain" else instruction_stops()

    def fingerprint(self, data_dir: Path | None) -> str:
        """The generator's version."""
        return f"mini_code-v{mini_code.VERSION}"


def problem(example: Example, number: int) -> dict:
    """A row in EvalPlus' format; its tests' expected values come from the reference again."""
    assert example.check is not None
    reference = example.answer.removeprefix(FENCES[0]).removesuffix(FENCES[1])
    signature, _, body = reference.partition("\n")
    code = example.instruction[example.instruction.index(signature) :]
    return {
        "task_id": f"MiniCode/{number}",
        "prompt": f"{code}\n",
        "entry_point": example.check["entry_point"],
        "canonical_solution": f"{body}\n",
        "contract": "",
        "base_input": [arguments for arguments, _ in _plain(example.check["tests"])],
        "plus_input": [],
        "atol": 0,
        "instruction": example.instruction,
    }


def _plain(tests: object) -> list:
    """Values as a file of problems gives them back."""
    return json.loads(json.dumps(tests))
