"""Runs one lm-eval task in this process, reproducibly; only lm-eval's warnings are shown."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from lm_eval.api.model import LM
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import evaluate
from pytorch_lightning.utilities.seed import isolate_rng

from alps.evals.harness.documents import Document
from alps.evals.harness.lm_eval_internals import no_progress_bar

if TYPE_CHECKING:
    from alps.evals.harness.benchmark import HarnessTask, Sample

log = logging.getLogger(__name__)

SEED = 0


@dataclass(frozen=True)
class TaskOutput:
    """lm-eval's output for a task.

    Attributes:
        results: lm-eval's metrics, `metric,filter` -> value.
        samples: Records of each document and filter, sorted by document.
        version: Version of the task.
        generation: The task's `generation_kwargs`, if it generates.
    """

    results: Mapping[str, float]
    samples: Sequence[Sample]
    version: Any
    generation: Mapping[str, Any] | None


def run_task(
    benchmark: HarnessTask, documents: Mapping[str, Sequence[Document]], lm: LM
) -> TaskOutput | None:
    """Evaluates a model on a task.

    Calls `lm_eval.evaluate`: `simple_evaluate` would also spend seconds on collecting versions of
    git, packages and drivers.

    Args:
        benchmark: The benchmark.
        documents: Documents of each split.
        lm: The model of this rank; every rank calls this.

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
    with quiet_lm_eval(benchmark.name), fixed_seeds():
        task = benchmark.harness_task(documents, benchmark.num_fewshot)
        task.set_fewshot_seed(SEED)
        _check_choices(benchmark.name, task)
        output: Any = evaluate(
            lm=lm,
            task_dict={"tasks": {benchmark.name: task}},
            bootstrap_iters=0,
            log_samples=True,
            apply_chat_template=benchmark.protocol in ("alpaca", "meta"),
            fewshot_as_multiturn=benchmark.protocol == "meta",
        )
    if output is None:
        return None
    results = {
        key: float(v) for key, v in output["results"][benchmark.name].items() if _is_metric(key)
    }
    samples = output["samples"][benchmark.name]
    for sample in samples:  # ranks with fewer documents repeat their last request
        sample["resps"] = [answers[: task.config.repeats] for answers in sample["resps"]]
    samples.sort(key=lambda sample: sample["doc_id"])  # stable: filters keep their order
    generates = task.OUTPUT_TYPE == "generate_until"
    generation = task.config.generation_kwargs if generates else None
    return TaskOutput(results, samples, task.VERSION, generation)


def _check_choices(name: str, task: ConfigurableTask) -> None:
    """Refuses documents whose answer is no choice: lm-eval would score every model wrong."""
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


def _is_metric(key: str) -> bool:
    return "," in key and "_stderr," not in key


@contextmanager
def quiet_lm_eval(name: str) -> Iterator[None]:
    """Hides lm-eval's progress bars and information; its warnings are logged as ours, once each.

    Args:
        name: Name of the benchmark, for the warnings.
    """
    loggers = [logging.getLogger(each) for each in ("lm_eval", "absl")]
    before = [(each.level, each.propagate, each.handlers) for each in loggers]
    try:
        for each in loggers:
            each.setLevel(logging.WARNING)
            each.handlers, each.propagate = [_Warnings(name)], False
        with no_progress_bar():
            yield
    finally:
        for each, (level, propagate, handlers) in zip(loggers, before, strict=True):
            each.setLevel(level)
            each.handlers, each.propagate = handlers, propagate


class _Warnings(logging.Handler):
    """Logs warnings of other libraries as ours, in one line, with the benchmark's name."""

    def __init__(self, name: str):
        super().__init__(logging.WARNING)
        self._name = name

    def emit(self, record: logging.LogRecord) -> None:
        _warn_once(f"{self._name}: {' '.join(record.getMessage().split())}")


@cache
def _warn_once(text: str) -> None:
    log.warning("%s", text)


@contextmanager
def fixed_seeds() -> Iterator[None]:
    """Seeds the random generators, and restores their state afterwards."""
    with isolate_rng():
        random.seed(SEED)
        np.random.seed(SEED)
        yield
