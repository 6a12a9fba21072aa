"""The mini code benchmark: examples of `alps.data.generators.mini_code` as EvalPlus problems."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from alps.data.example import Example
from alps.data.generators import mini_code
from alps.evals.context import EvaluationContext
from alps.evals.evalplus import prompts
from alps.evals.evalplus.benchmark import CodeBenchmark
from alps.evals.evalplus.problems import Problem, ProblemSet, subset

if TYPE_CHECKING:
    from alps.evals.engine.language_model import LanguageModel

FENCES = ("```python\n", "\n```")


@dataclass(frozen=True, kw_only=True)
class MiniCode(CodeBenchmark):
    """Small functions, with the instructions of the training examples.

    Results are compared with `==`, as in EvalPlus: True passes for 1 and 2.0 for 2.
    """

    base_only: ClassVar[bool] = True

    max_new_tokens: int = 96

    def load_problems(self, data_dir: Path | None) -> ProblemSet:
        """The first test examples; no file is needed."""
        examples = islice(mini_code.examples("test"), self.limit)
        problems = tuple(to_problem(example, number) for number, example in enumerate(examples))
        return subset("humaneval", f"mini_code {mini_code.VERSION}", problems)

    def prompt(self, problem: Problem, lm: LanguageModel, context: EvaluationContext) -> str:
        """The example's instruction in the training template; under `plain` its code alone."""
        if self.protocol == "plain":
            return prompts.codegen_prompt(problem["prompt"])
        return lm.apply_chat_template([{"role": "user", "content": problem["instruction"]}])

    def stop_sequences(self) -> list[str]:
        """EvalPlus', without the closing fence: here a fence may open the answer."""
        if self.protocol == "plain":
            return prompts.stop_sequences("plain", "humaneval")
        return prompts.instruction_stop_sequences()

    def fingerprint(self, data_dir: Path | None) -> str:
        """The generator's version."""
        return f"mini_code-v{mini_code.VERSION}"


def to_problem(example: Example, number: int) -> dict:
    """An example in EvalPlus' format; expected values are computed from the reference solution."""
    assert example.check is not None
    reference = example.answer.removeprefix(FENCES[0]).removesuffix(FENCES[1])
    signature, _, body = reference.partition("\n")
    code = example.instruction[example.instruction.index(signature) :]
    tests = json.loads(json.dumps(example.check["tests"]))  # the types of a file of problems
    return {
        "task_id": f"MiniCode/{number}",
        "prompt": f"{code}\n",
        "entry_point": example.check["entry_point"],
        "canonical_solution": f"{body}\n",
        "contract": "",
        "base_input": [arguments for arguments, _ in tests],
        "plus_input": [],
        "atol": 0,
        "instruction": example.instruction,
    }
