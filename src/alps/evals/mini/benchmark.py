"""The mini benchmarks: lm-eval tasks over the generated examples of `alps.data.generators`."""

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
    """Test examples of a generator; needs no file and no network.

    Attributes:
        generator: Module in `alps.data.generators` with `VERSION` and `examples(split)`.
    """

    generator: str

    def documents(self, data_dir: Path | None) -> Mapping[str, Sequence[Document]]:
        """The generator's test examples."""
        return {"test": [document(e) for e in self._module().examples("test")]}

    def fetch(self, data_dir: Path | None) -> str | None:
        """Nothing to download."""
        return None

    def fingerprint(self, data_dir: Path | None) -> str | None:
        """Name and version of the generator."""
        return f"{self.generator}-v{self._module().VERSION}"

    def _module(self) -> Any:
        return import_module(f"alps.data.generators.{self.generator}")


def document(example: Example) -> Document:
    """An example as an lm-eval document; `check` is JSON text, since its fields vary."""
    check = json.dumps(example.check)
    return {"instruction": example.instruction, "answer": example.answer, "check": check}


def math_documents(**_: Any) -> Mapping[str, Any]:
    """Documents of `tasks/mini_math.yaml`, for lm-eval's own command line."""
    return _datasets(mini_math)


def general_documents(**_: Any) -> Mapping[str, Any]:
    """Documents of `tasks/mini_general.yaml`."""
    return _datasets(mini_general)


def math_results(document: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Exact match of the final number."""
    return {"exact_match": float(exact_match(results[0], json.loads(document["check"])))}


def general_results(document: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Whether all constraints are satisfied, and the fraction that is."""
    satisfied = constraint_results(results[0], json.loads(document["check"]))
    return {
        "prompt_accuracy": float(all(satisfied)),
        "constraint_accuracy": sum(satisfied) / len(satisfied),
    }


def _datasets(module: Any) -> Mapping[str, Any]:
    from datasets import Dataset

    return {"test": Dataset.from_list([document(e) for e in module.examples("test")])}
