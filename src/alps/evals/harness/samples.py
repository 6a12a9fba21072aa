"""Every sample of an evaluation as a file in lm-eval's own format, and the score read back from it.

This module imports lm-eval; settings do not import this module.
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.evaluator import evaluate
from lm_eval.utils import handle_non_serializable, sanitize_list

from alps.base.atomic import replacing
from alps.evals.harness.run import fixed_seeds, quiet
from alps.evals.samples import read_samples, samples_path
from alps.evals.statistics import value

if TYPE_CHECKING:
    from alps.evals.harness.benchmark import HarnessTask, Sample

COMPRESS_FROM = 5000
"""Samples: from there on the file is compressed (MMLU's prompts are some hundred megabytes)."""


def write_samples(folder: Path, name: str, samples: Sequence[Sample]) -> Path:
    """Writes one line for each document and filter, whole or not at all.

    Args:
        folder: Of the benchmark and protocol.
        name: Of the task.
        samples: lm-eval's records.
    """
    compressed = len(samples) >= COMPRESS_FROM
    path = samples_path(folder, name, compressed)
    with replacing(path) as temporary, temporary.open("wb") as raw:
        # no time and no name in the file: the same samples are the same bytes
        packed = gzip.GzipFile("", "wb", 6, raw, mtime=0) if compressed else raw
        for sample in samples:
            packed.write(_line(sample).encode())
        if compressed:
            packed.close()
    samples_path(folder, name, not compressed).unlink(missing_ok=True)
    return path


def rescored(benchmark: HarnessTask, folder: Path) -> dict[str, float]:
    """The metrics, derived once more from the stored answers by the harness's own code.

    The harness builds its requests over the stored documents, gets the stored answers for them,
    and filters, judges and sums up as it did when they were new. No model is needed, no shots, and
    no documents from elsewhere.

    Args:
        benchmark: The settings under which the answers were given.
        folder: Where the samples are.

    Raises:
        ValueError: If there are no samples.
    """
    samples = list(read_samples(folder, benchmark.name))
    documents = {sample["doc_id"]: sample["doc"] for sample in samples}
    answers = {sample["doc_id"]: sample["resps"] for sample in samples}
    assert list(documents) == list(range(len(documents))), "samples are sorted and complete"
    with quiet(benchmark.name), fixed_seeds():
        task = benchmark.harness_task({"test": list(documents.values())}, num_fewshot=0)
        task.config.process_docs = None  # the stored ones are processed
        task.set_fewshot_seed(0)
        found: Any = evaluate(
            lm=Stored(answers), task_dict={"tasks": {benchmark.name: task}}, bootstrap_iters=0
        )
    measures = benchmark.measures(found["samples"][benchmark.name])
    return {name: value(*m.parts, groups=m.groups) for name, m in measures.items()}


class Stored(LM):
    """Gives the answers that a model gave before."""

    def __init__(self, answers: Mapping[int, Sequence[Sequence[Any]]]):
        """Takes, for each document, the answers to each of its requests."""
        super().__init__()
        self.answers = answers

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Stored texts."""
        return [str(answer) for answer in self._stored(requests)]

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Stored log-likelihoods; the file has their parts as text."""
        return [(float(value), greedy == "True") for value, greedy in self._stored(requests)]

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Stored log-likelihoods of whole texts."""
        return [float(answer) for answer in self._stored(requests)]

    def _stored(self, requests: list[Instance]) -> Iterator[Any]:
        asked: dict[tuple[Any, int], int] = defaultdict(int)
        for request in requests:
            again = asked[request.doc_id, request.idx]
            asked[request.doc_id, request.idx] += 1
            assert request.doc_id is not None
            yield self.answers[request.doc_id][request.idx][again]


def _line(sample: Sample) -> str:
    """A record as lm-eval's own file has it: numbered arguments, answers as text."""
    arguments = {
        f"gen_args_{i}": {f"arg_{j}": part for j, part in enumerate(each)}
        for i, each in enumerate(sample["arguments"])
    }
    written = {
        **sample,
        "arguments": arguments,
        "resps": sanitize_list(sample["resps"]),
        "filtered_resps": sanitize_list(sample["filtered_resps"]),
        "target": str(sample["target"]),
    }
    return json.dumps(written, default=handle_non_serializable, ensure_ascii=False) + "\n"
