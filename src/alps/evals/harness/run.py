"""Running one lm-eval task in this process: repeatably, leaving no trace in it; only warnings show.

This module imports lm-eval, and with it torch; settings do not import this module.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from lm_eval.api import task as task_module
from lm_eval.api.model import LM
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import evaluate

from alps.evals.harness.documents import Row
from alps.evals.random_state import random_state_kept

if TYPE_CHECKING:
    from alps.evals.harness.benchmark import HarnessTask, Sample

log = logging.getLogger(__name__)

SEED = 0
_warned: set[str] = set()


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
    with quiet(benchmark.name), fixed_seeds():
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
def quiet(name: str) -> Iterator[None]:
    """Without the harness's progress bars and lines of information; each warning is told once.

    Args:
        name: Of the benchmark.
    """
    loggers = [logging.getLogger(each) for each in ("lm_eval", "absl")]
    before = [(each.level, each.propagate, each.handlers) for each in loggers]
    bar = task_module.tqdm
    try:
        for each in loggers:
            each.setLevel(logging.WARNING)
            each.handlers, each.propagate = [_Warnings(name)], False
        task_module.tqdm = lambda items, **_: items  # it has no switch for this one
        yield
    finally:
        task_module.tqdm = bar
        for each, (level, propagate, handlers) in zip(loggers, before, strict=True):
            each.setLevel(level)
            each.handlers, each.propagate = handlers, propagate


class _Warnings(logging.Handler):
    """Tells the harness's warnings as ours, in one line each, and none twice."""

    def __init__(self, name: str):
        super().__init__(logging.WARNING)
        self._name = name

    def emit(self, record: logging.LogRecord) -> None:
        text = f"{self._name}: {' '.join(record.getMessage().split())}"
        if text not in _warned:
            _warned.add(text)
            log.warning("%s", text)


@contextmanager
def fixed_seeds() -> Iterator[None]:
    """Inside, fixed seeds whatever the caller's state; afterwards the caller's state again."""
    with random_state_kept():
        random.seed(SEED)
        np.random.seed(SEED)
        yield
