"""Evaluates a dummy model on a few documents, so that errors show before anything trains."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from alps.base.serialization import did_you_mean
from alps.evals.context import Backend
from alps.evals.engine.prompts import parse_generation_kwargs
from alps.evals.harness.documents import Document
from alps.evals.harness.run import TaskOutput, quiet_lm_eval, run_task
from alps.evals.harness.task_config import one_line

if TYPE_CHECKING:
    from alps.evals.harness.benchmark import HarnessTask

NUM_DOCUMENTS = 2
DUMMY_ANSWER = "The answer is 1."


def dry_run(
    benchmark: HarnessTask, documents: Mapping[str, Sequence[Document]], backend: Backend = "hf"
) -> None:
    """Evaluates the first documents as `HarnessTask.evaluate` will.

    Args:
        benchmark: The benchmark.
        documents: Documents of each split.
        backend: The inference engine of the evaluation.

    Raises:
        ValueError: If the task fails, or lacks a metric, filter or aggregation of the benchmark;
            one sentence.
    """
    documents = {**documents, "test": benchmark.limited(documents["test"])[:NUM_DOCUMENTS]}
    try:
        with quiet_lm_eval(benchmark.name):
            task = benchmark.harness_task(documents, 0)
            aggregations = task.aggregation()
        _check_target(benchmark, task.config.doc_to_target, task.features)
        output = run_task(benchmark, documents, DummyModel(benchmark.name, backend))
        assert output is not None
        _check_prompts(benchmark, output)
        _check_metrics(benchmark, output, aggregations)
        metrics = benchmark.document_metrics(output.samples).values()
        finite = all(math.isfinite(metric.value) for metric in metrics)
    except Exception as error:  # a task file runs code of its own
        text = one_line(error)
        if isinstance(error, ValueError) and benchmark.name in text:
            raise ValueError(text) from None
        raise ValueError(
            f"benchmark {benchmark.name} cannot be evaluated ({type(error).__name__}: {text}): see "
            "its task file and its documents"
        ) from error
    if not finite:
        raise ValueError(f"a metric of benchmark {benchmark.name} is no finite number")


def _check_prompts(benchmark: HarnessTask, output: TaskOutput) -> None:
    """Refuses equal prompts of different documents, which a misspelt column produces."""
    asked: dict[str, Any] = {}
    for sample in output.samples:
        arguments = json.dumps(sample["arguments"], sort_keys=True, default=str)
        if asked.setdefault(arguments, sample["doc"]) != sample["doc"]:
            raise ValueError(
                f"benchmark {benchmark.name} asks the same for different documents: doc_to_text in "
                "its task file must be the name of a column, or a template with {{column}}"
            )


def _check_target(benchmark: HarnessTask, target: Any, columns: Sequence[str]) -> None:
    """Refuses a misspelt column, which lm-eval takes for a constant answer."""
    if isinstance(target, str) and target.isidentifier() and target not in columns:
        raise ValueError(
            f"benchmark {benchmark.name}: doc_to_target={target} in its task file is no column of "
            f"its documents{did_you_mean(target, columns)}"
        )


def _check_metrics(
    benchmark: HarnessTask, output: TaskOutput, aggregations: Mapping[str, Any]
) -> None:
    """Refuses metrics that the task does not compute, or does not average over documents."""
    known = {s["filter"]: [str(m) for m in s["metrics"]] for s in output.samples}
    for title, key in benchmark.metrics.items():
        metric, _, name = key.partition(",")
        setting = f"metrics.{title} of benchmark {benchmark.name}"
        if name not in known:
            raise ValueError(
                f"{setting}: {key!r} must name a metric and, behind a comma, a filter of the task"
                f"{did_you_mean(name, known)}"
            )
        if metric not in known[name]:
            raise ValueError(
                f"{setting}: the task computes no {metric!r}{did_you_mean(metric, known[name])}"
            )
        aggregation = aggregations.get(metric)
        if aggregation is not None and not benchmark.supports_aggregation(aggregation):
            raise ValueError(
                f"{setting}: the task sums {metric} up by {aggregation.__name__}, but only means "
                "over documents are supported"
            )


class DummyModel(LM):
    """Answers every request with the same text or likelihood."""

    def __init__(self, name: str, backend: Backend):
        """Checks decoding settings for this backend; `name` is the benchmark's, for messages."""
        super().__init__()
        self._name, self._backend = name, backend

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """The same text, if the decoding settings of the task are supported."""
        for request in requests:
            decoding = parse_generation_kwargs(request.arguments[1], self._name)
            if self._backend == "hf":
                from alps.evals.engine.hf import generation_config

                generation_config(decoding, 0)
        return [DUMMY_ANSWER for _ in requests]

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """The same likelihood."""
        return [(-1.0, False) for _ in requests]

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """The same likelihood."""
        return [-1.0 for _ in requests]

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The turns, one per line."""
        return "\n".join(turn["content"] for turn in chat_history)

    @property
    def tokenizer_name(self) -> str:
        """Empty: there is no tokenizer."""
        return ""

    def chat_template(self, chat_template: bool | str = False) -> str:
        """Empty: there is no template."""
        return ""
