"""lm-eval's task of a benchmark: the task file with our changes, over documents in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lm_eval
import pyarrow as pa
import yaml
from lm_eval.api.task import ConfigurableTask, TaskConfig

from alps.base.serialization import did_you_mean
from alps.evals.harness.documents import Document
from alps.evals.harness.lm_eval_internals import load_task_file

if TYPE_CHECKING:
    from alps.evals.harness.benchmark import HarnessTask

LM_EVAL_TASKS = Path(lm_eval.__file__).parent / "tasks"
ALPS_TASKS = Path(__file__).parent / "tasks"


class InMemoryTask(ConfigurableTask):
    """An lm-eval task over documents in memory."""

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **_: Any) -> None:
        """Sets the dataset from the task config."""
        assert self.config.custom_dataset is not None
        self.dataset = self.config.custom_dataset()


def task_config(
    benchmark: HarnessTask, documents: Mapping[str, Sequence[Document]], num_fewshot: int
) -> dict[str, Any]:
    """lm-eval's task file with the benchmark's changes, as a config for `InMemoryTask`.

    Args:
        benchmark: The benchmark, with the names of its task files.
        documents: Documents of the splits `test` and, optionally, `shots`.
        num_fewshot: Shots in the prompt.

    Raises:
        ValueError: If the task file cannot be used, shots would come from the evaluated documents,
            or a column has values of different types; one sentence.
    """
    spec = _task_file(benchmark.name, LM_EVAL_TASKS, benchmark.config) if benchmark.config else {}
    if benchmark.changes:
        spec |= _task_file(benchmark.name, ALPS_TASKS, benchmark.changes)
    fewshot = dict(spec.get("fewshot_config") or {})
    fewshot.pop("split", None)  # the hub's name; ours is `shots`
    _check_shots(benchmark.name, num_fewshot, documents.get("shots"), fewshot.get("samples"))
    if benchmark.protocol != "plain":  # where a blank line separates it from the question
        spec["description"] = spec.get("description", "").rstrip()
    if benchmark.max_new_tokens is not None:
        longest = {"max_gen_toks": benchmark.max_new_tokens}
        spec["generation_kwargs"] = {**spec.get("generation_kwargs", {}), **longest}
    splits = {name: _dataset(benchmark.name, split) for name, split in documents.items()}
    return {
        **spec,
        "task": benchmark.name,
        "num_fewshot": num_fewshot,
        "dataset_path": None,
        "dataset_name": None,
        "dataset_kwargs": None,
        "custom_dataset": lambda **_: splits,
        "training_split": None,
        "validation_split": None,
        "test_split": "test",
        "fewshot_config": fewshot or None,
        "fewshot_split": "shots" if "shots" in splits else None,
    }


def _task_file(name: str, folder: Path, file: str) -> dict[str, Any]:
    """A task file with its includes.

    Raises:
        ValueError: If it does not exist, cannot be read or is not supported; one sentence.
    """
    if not (folder / file).is_file():
        known = [str(f.relative_to(folder)) for f in folder.rglob("*") if f.suffix in ("", ".yaml")]
        close = get_close_matches(file, known, n=1)
        hint = f", did you mean '{close[0]}'?" if close else ""
        raise ValueError(
            f"the task file of benchmark {name}, {folder / file}, does not exist{hint}"
        )
    try:
        spec = load_task_file(folder / file)
    except (yaml.YAMLError, ImportError, AttributeError, OSError, ValueError) as error:
        raise ValueError(f"{file}, the task file of benchmark {name}: {one_line(error)}") from None
    if "group" in spec or not isinstance(spec.get("task", ""), str):
        raise ValueError(
            f"{file}, the task file of benchmark {name}, is a group of tasks: name one of them"
        )
    if spec.get("unsafe_code"):
        raise ValueError(
            f"{file}, the task file of benchmark {name}, executes what a model wrote, which is not "
            "supported here: code is judged in a sandbox, by the benchmarks of EvalPlus"
        )
    if unknown := sorted(set(spec) - {f.name for f in fields(TaskConfig)}):
        raise ValueError(
            f"{file}, the task file of benchmark {name}: {unknown[0]} is no key of a task"
            f"{did_you_mean(unknown[0], [f.name for f in fields(TaskConfig)])}"
        )
    return spec


def _check_shots(
    name: str, num_fewshot: int, shots: Sequence[Document] | None, fixed: Any | None
) -> None:
    """Refuses shots from the evaluated documents, which lm-eval would fall back to."""
    if not num_fewshot:
        return
    if shots is None and fixed is None:
        raise ValueError(
            f"benchmark {name} has num_fewshot={num_fewshot} but nothing to show: its examples "
            "would be documents that are asked; give it splits.shots, or a task file with "
            "fewshot_config.samples"
        )
    pool: Any = shots if shots is not None else fixed() if callable(fixed) else fixed
    if len(pool) < num_fewshot:
        raise ValueError(
            f"benchmark {name} has num_fewshot={num_fewshot} but {len(pool)} examples to show"
        )


def one_line(error: BaseException) -> str:
    """Message of an exception, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _dataset(name: str, documents: Sequence[Document]) -> Any:
    from datasets import Dataset

    try:
        return Dataset.from_list([dict(document) for document in documents])
    except (pa.ArrowException, TypeError) as error:
        why = str(error).splitlines()[0]
        raise ValueError(f"rows of {name} differ in type ({why}): get the file again") from None
