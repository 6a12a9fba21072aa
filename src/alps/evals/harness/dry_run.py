"""A benchmark tried on a few documents without a model, before anything trains.

This module imports lm-eval; settings do not import this module.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from alps.base.serialization import did_you_mean
from alps.evals.context import Backend
from alps.evals.engine.prompts import decoding
from alps.evals.harness.documents import Row
from alps.evals.harness.run import Found, quiet, run
from alps.evals.harness.specification import flat
from alps.evals.statistics import value

if TYPE_CHECKING:
    from alps.evals.harness.benchmark import HarnessTask

DOCUMENTS = 2
ANSWER = "The answer is 1."


def dry_run(
    benchmark: HarnessTask, documents: Mapping[str, Sequence[Row]], backend: Backend = "hf"
) -> None:
    """Asks, judges and sums up the first documents as `HarnessTask.evaluate` will.

    Args:
        benchmark: The task.
        documents: Rows of each split.
        backend: What will generate.

    Raises:
        ValueError: If the task cannot be asked or judged, or has another metric, filter or
            aggregation than the benchmark says; one sentence.
    """
    documents = {**documents, "test": benchmark.limited(documents["test"])[:DOCUMENTS]}
    try:
        with quiet(benchmark.name):
            task = benchmark.harness_task(documents, 0)
            aggregations = task.aggregation()
        _check_target(benchmark, task.config.doc_to_target, task.features)
        found = run(benchmark, documents, StandIn(benchmark.name, backend))
        assert found is not None
        _check_prompts(benchmark, found)
        _check_metrics(benchmark, found, aggregations)
        measures = benchmark.measures(found.samples).values()
        sums = [value(*measure.parts, groups=measure.groups) for measure in measures]
    except Exception as error:  # of a task file anything can come
        text = flat(error)
        if isinstance(error, ValueError) and benchmark.name in text:
            raise ValueError(text) from None
        raise ValueError(
            f"benchmark {benchmark.name} cannot be evaluated ({type(error).__name__}: {text}): see "
            "its task file and its documents"
        ) from error
    if not all(map(math.isfinite, sums)):
        raise ValueError(f"a metric of benchmark {benchmark.name} is no finite number")


def _check_prompts(benchmark: HarnessTask, found: Found) -> None:
    """Refuses a prompt that is the same for different documents, as that of a misspelt column."""
    asked: dict[str, Any] = {}
    for sample in found.samples:
        arguments = json.dumps(sample["arguments"], sort_keys=True, default=str)
        if asked.setdefault(arguments, sample["doc"]) != sample["doc"]:
            raise ValueError(
                f"benchmark {benchmark.name} asks the same for different documents: doc_to_text in "
                "its task file must be the name of a column, or a template with {{column}}"
            )


def _check_target(benchmark: HarnessTask, target: Any, columns: Sequence[str]) -> None:
    """Refuses a misspelt column, which the harness takes for the answer to every document."""
    if isinstance(target, str) and target.isidentifier() and target not in columns:
        raise ValueError(
            f"benchmark {benchmark.name}: doc_to_target={target} in its task file is no column of "
            f"its documents{did_you_mean(target, columns)}"
        )


def _check_metrics(benchmark: HarnessTask, found: Found, aggregations: Mapping[str, Any]) -> None:
    """Refuses metrics that the task does not compute, or does not average over documents."""
    known = {s["filter"]: [str(m) for m in s["metrics"]] for s in found.samples}
    for title, key in benchmark.metrics.items():
        metric, _, name = key.partition(",")
        place = f"metrics.{title} of benchmark {benchmark.name}"
        if name not in known:
            raise ValueError(
                f"{place}: {key!r} must name a metric and, behind a comma, a filter of the task"
                f"{did_you_mean(name, known)}"
            )
        if metric not in known[name]:
            raise ValueError(
                f"{place}: the task computes no {metric!r}{did_you_mean(metric, known[name])}"
            )
        aggregation = aggregations.get(metric)
        if aggregation is not None and not benchmark.computes(aggregation):
            raise ValueError(
                f"{place}: the task sums {metric} up by {aggregation.__name__}, but only means "
                "over documents are supported"
            )


class StandIn(LM):
    """Answers every request with the same words or likelihood."""

    def __init__(self, name: str, backend: Backend):
        """Stands for a model of this backend; `name` is the benchmark's."""
        super().__init__()
        self._name, self._backend = name, backend

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """The same words, if the settings of the task can be used."""
        for request in requests:
            settings = decoding(request.arguments[1], self._name)
            if self._backend == "hf":
                from alps.evals.engine.hf import generation_config

                generation_config(settings, 0)
        return [ANSWER for _ in requests]

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """The same likelihood."""
        return [(-1.0, False) for _ in requests]

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """The same likelihood."""
        return [-1.0 for _ in requests]

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The turns, in lines."""
        return "\n".join(turn["content"] for turn in chat_history)

    @property
    def tokenizer_name(self) -> str:
        """Of no tokenizer."""
        return ""

    def chat_template(self, chat_template: bool | str = False) -> str:
        """None of its own."""
        return ""
