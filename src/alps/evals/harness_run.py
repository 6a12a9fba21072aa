"""Running one lm-eval task in this process: quietly, repeatably, leaving no trace in it.

This module imports lm-eval, and with it torch; settings do not import this module.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lm_eval
import numpy as np
import pyarrow as pa
from lm_eval.api import task as task_module
from lm_eval.api.model import LM
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import evaluate
from lm_eval.tasks._yaml_loader import load_yaml  # private, but lm-eval's version is pinned

from alps.evals.harness import HarnessTask, Sample
from alps.evals.harness_documents import Row
from alps.evals.random_state import random_state_kept

THEIR_TASKS = Path(lm_eval.__file__).parent / "tasks"
OUR_TASKS = Path(__file__).parent / "tasks"
SEED = 0


@dataclass(frozen=True)
class Found:
    """What lm-eval found.

    Attributes:
        results: Its own metrics, as `metric,filter` -> value.
        samples: Its record of each document and filter, by document.
        version: Of the task.
        generation: Its generation settings, if it generates.
    """

    results: Mapping[str, float]
    samples: Sequence[Sample]
    version: Any
    generation: Mapping[str, Any] | None


def run(benchmark: HarnessTask, documents: Mapping[str, Sequence[Row]], lm: LM) -> Found | None:
    """Asks a model and judges its answers.

    `lm_eval.evaluate` is called rather than `simple_evaluate`, which does the same and then looks
    for git, pip and drivers, for some seconds.

    Args:
        benchmark: The task.
        documents: Rows of each split.
        lm: The model; every rank calls this with its own.

    Returns:
        None on ranks other than 0.

    Raises:
        ValueError: If documents are damaged or fewer than ranks; one sentence.
    """
    if len(documents["test"]) < lm.world_size:
        raise ValueError(
            f"{benchmark.name} has {len(documents['test'])} documents for {lm.world_size} "
            "processes: raise evals.limit, or take fewer devices"
        )
    with quiet(), fixed_seeds():
        task = benchmark.harness_task(documents, benchmark.num_fewshot)
        task.set_fewshot_seed(SEED)
        _check_choices(benchmark.name, task)
        found: Any = evaluate(
            lm=lm,
            task_dict={"tasks": {benchmark.name: task}},
            bootstrap_iters=0,
            log_samples=True,
            apply_chat_template=benchmark.protocol in ("alpaca", "meta"),
            fewshot_as_multiturn=benchmark.protocol == "meta",
        )
    if found is None:
        return None
    results = {key: float(v) for key, v in found["results"][benchmark.name].items() if _metric(key)}
    samples = found["samples"][benchmark.name]
    for sample in samples:  # a rank with fewer requests repeats its last one, for other engines
        sample["resps"] = [answers[: task.config.repeats] for answers in sample["resps"]]
    samples.sort(key=lambda sample: sample["doc_id"])  # ranks come one after the other; stable
    generates = task.OUTPUT_TYPE == "generate_until"
    generation = task.config.generation_kwargs if generates else None
    return Found(results, samples, task.VERSION, generation)


def specification(
    benchmark: HarnessTask, documents: Mapping[str, Sequence[Row]], num_fewshot: int
) -> dict[str, Any]:
    """The harness's task file with our changes, and documents that are in memory.

    Args:
        benchmark: Names the files.
        documents: Rows of the splits `test` and, perhaps, `shots`.
        num_fewshot: Worked examples in the prompt.

    Raises:
        ValueError: If a column has values of different types.
    """
    spec = load_yaml(THEIR_TASKS / benchmark.config) if benchmark.config else {}
    if benchmark.changes:
        spec |= load_yaml(OUR_TASKS / benchmark.changes)
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
        "fewshot_split": "shots" if "shots" in splits else None,
    }


def _dataset(name: str, rows: Sequence[Row]) -> Any:
    from datasets import Dataset

    try:
        return Dataset.from_list([dict(row) for row in rows])
    except (pa.ArrowException, TypeError) as error:
        why = str(error).splitlines()[0]
        raise ValueError(f"rows of {name} differ in type ({why}): get the file again") from None


def _check_choices(name: str, task: ConfigurableTask) -> None:
    """Refuses a document whose answer is none of its choices; the harness would call it wrong."""
    if task.OUTPUT_TYPE != "multiple_choice":
        return
    documents: Any = task.eval_docs
    for number, document in enumerate(documents, start=1):
        try:
            choices, right = task.doc_to_choice(document), task.doc_to_target(document)
        except ValueError:
            right, choices = -1, []
        if right not in (range(len(choices)) if isinstance(right, int) else choices):
            raise ValueError(
                f"document {number} of {name}: the right answer is none of the choices; "
                "get the file again"
            )


def _metric(key: str) -> bool:
    return "," in key and "_stderr," not in key


@contextmanager
def quiet() -> Iterator[None]:
    """Without the harness's log lines and progress bars; ours say what there is to say."""
    loggers = [logging.getLogger(name) for name in ("lm_eval", "absl")]
    levels, bar = [logger.level for logger in loggers], task_module.tqdm
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        task_module.tqdm = lambda items, **_: items  # it has no switch for this one
        yield
    finally:
        task_module.tqdm = bar
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def fixed_seeds() -> Iterator[None]:
    """Inside, fixed seeds whatever the caller's state; afterwards the caller's state again."""
    with random_state_kept():
        random.seed(SEED)
        np.random.seed(SEED)
        yield
