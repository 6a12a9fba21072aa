"""The mini benchmarks as lm-eval tasks over the rows that `alps.data` makes itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from alps.data.example import Example
from alps.data.generators import mini_general, mini_math
from alps.evals.harness.benchmark import HarnessTask
from alps.evals.harness.documents import Document
from alps.evals.mini.check_general import constraint_results
from alps.evals.mini.check_math import exact_match


@dataclass(frozen=True, kw_only=True)
class MiniTask(HarnessTask):
    """Test rows of a generator module in `alps.data`, which needs no file and no network.

    Attributes:
        generator: The module, with `VERSION` and `examples(split)`.
    """

    generator: str

    def documents(self, data_dir: Path | None) -> Mapping[str, Sequence[Document]]:
        """The generator's test rows."""
        return {"test": [document(e) for e in self._module().examples("test")]}

    def fetch(self, data_dir: Path | None) -> str | None:
        """Nothing."""
        return None

    def fingerprint(self, data_dir: Path | None) -> str | None:
        """The generator and its version."""
        return f"{self.generator}-v{self._module().VERSION}"

    def _module(self) -> Any:
        return import_module(f"alps.data.generators.{self.generator}")


def document(example: Example) -> Document:
    """A row as lm-eval takes it; the check is text, because its fields differ from row to row."""
    check = json.dumps(example.check)
    return {"instruction": example.instruction, "answer": example.answer, "check": check}


def math_documents(**_: Any) -> Mapping[str, Any]:
    """The documents of `tasks/mini_math.yaml`, for lm-eval's own command line."""
    return _datasets(mini_math)


def general_documents(**_: Any) -> Mapping[str, Any]:
    """The documents of `tasks/mini_general.yaml`."""
    return _datasets(mini_general)


def math_results(document: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Exact match of the final number."""
    return {"exact_match": float(exact_match(results[0], json.loads(document["check"])))}


def general_results(document: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Whether all constraints hold, and which share of them does."""
    kept = constraint_results(results[0], json.loads(document["check"]))
    return {"prompt_accuracy": float(all(kept)), "constraint_accuracy": sum(kept) / len(kept)}


def _datasets(module: Any) -> Mapping[str, Any]:
    from datasets import Dataset

    return {"test": Dataset.from_list([document(e) for e in module.examples("test")])}
