"""The harness's task of a benchmark: its task file with our changes, over documents in memory.

This module imports lm-eval, and with it torch; settings do not import this module.
"""

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
from lm_eval.tasks._yaml_loader import load_yaml  # private, but lm-eval's version is pinned

from alps.base.serialization import did_you_mean
from alps.evals.harness.documents import Row

if TYPE_CHECKING:
    from alps.evals.harness.benchmark import HarnessTask

THEIR_TASKS = Path(lm_eval.__file__).parent / "tasks"
OUR_TASKS = Path(__file__).parent / "tasks"


class TaskInMemory(ConfigurableTask):
    """A task of the harness over documents that were read before."""

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **_: Any) -> None:
        """Takes them from `specification`."""
        assert self.config.custom_dataset is not None
        self.dataset = self.config.custom_dataset()


def specification(
    benchmark: HarnessTask, documents: Mapping[str, Sequence[Row]], num_fewshot: int
) -> dict[str, Any]:
    """The harness's task file with our changes, and documents that are in memory.

    Args:
        benchmark: Names the files.
        documents: Rows of the splits `test` and, perhaps, `shots`.
        num_fewshot: Worked examples in the prompt.

    Raises:
        ValueError: If the task file cannot be used, worked examples would come from the documents
            that are asked, or a column has values of different types; one sentence.
    """
    spec = _task_file(benchmark.name, THEIR_TASKS, benchmark.config) if benchmark.config else {}
    if benchmark.changes:
        spec |= _task_file(benchmark.name, OUR_TASKS, benchmark.changes)
    fewshot = dict(spec.get("fewshot_config") or {})
    fewshot.pop("split", None)  # its name in the hub's dataset; here it is `shots`
    _check_shots(benchmark.name, num_fewshot, documents.get("shots"), fewshot.get("samples"))
    if benchmark.protocol != "plain":  # there a blank line stands between it and the question
        spec["description"] = spec.get("description", "").rstrip()
    if benchmark.max_new_tokens is not None:
        longest = {"max_gen_toks": benchmark.max_new_tokens}
        spec["generation_kwargs"] = {**spec.get("generation_kwargs", {}), **longest}
    splits = {name: _dataset(benchmark.name, rows) for name, rows in documents.items()}
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
    """A task file, with what it includes.

    Raises:
        ValueError: If it does not exist or cannot be read; one sentence.
    """
    if not (folder / file).is_file():
        known = [str(f.relative_to(folder)) for f in folder.rglob("*") if f.suffix in ("", ".yaml")]
        close = get_close_matches(file, known, n=1)
        hint = f", did you mean '{close[0]}'?" if close else ""
        raise ValueError(
            f"the task file of benchmark {name}, {folder / file}, does not exist{hint}"
        )
    try:
        spec = load_yaml(folder / file)
    except (yaml.YAMLError, ImportError, AttributeError, OSError, ValueError) as error:
        raise ValueError(f"{file}, the task file of benchmark {name}: {flat(error)}") from None
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
    name: str, num_fewshot: int, shots: Sequence[Row] | None, fixed: Any | None
) -> None:
    """Refuses worked examples out of the documents that are asked, as the harness takes them."""
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


def flat(error: BaseException) -> str:
    """What an exception says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _dataset(name: str, rows: Sequence[Row]) -> Any:
    from datasets import Dataset

    try:
        return Dataset.from_list([dict(row) for row in rows])
    except (pa.ArrowException, TypeError) as error:
        why = str(error).splitlines()[0]
        raise ValueError(f"rows of {name} differ in type ({why}): get the file again") from None
