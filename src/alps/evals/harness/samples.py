"""Writes the samples of an evaluation in lm-eval's format, and computes its metrics from them."""

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
from alps.evals.harness.run import fixed_seeds, quiet_lm_eval
from alps.evals.samples import read_samples, samples_path

if TYPE_CHECKING:
    from alps.evals.harness.benchmark import HarnessTask, Sample

COMPRESS_FROM = 5000
"""Number of samples from which the file is compressed: MMLU's prompts take 170 MB."""


def write_samples(folder: Path, name: str, samples: Sequence[Sample]) -> Path:
    """Writes one line per document and filter, atomically.

    Args:
        folder: Folder of the benchmark and protocol.
        name: Name of the task.
        samples: lm-eval's records.
    """
    compressed = len(samples) >= COMPRESS_FROM
    path = samples_path(folder, name, compressed)
    with replacing(path) as temporary, temporary.open("wb") as raw:
        # without time and file name, so that equal samples are equal bytes
        packed = gzip.GzipFile("", "wb", 6, raw, mtime=0) if compressed else raw
        for sample in samples:
            packed.write(_line(sample).encode())
        if compressed:
            packed.close()
    samples_path(folder, name, not compressed).unlink(missing_ok=True)
    return path


def rescore(benchmark: HarnessTask, folder: Path, data_dir: Path | None = None) -> dict[str, float]:
    """Metrics computed from the recorded answers by lm-eval's own code, without a model.

    lm-eval builds its requests over the recorded documents, receives the recorded answers, and
    filters, scores and aggregates them.

    Args:
        benchmark: The settings under which the answers were recorded.
        folder: Folder with the samples.
        data_dir: `evals.data_dir`, for benchmarks that score with files of it.

    Raises:
        ValueError: If there are no samples.
    """
    samples = list(read_samples(folder, benchmark.name))
    documents = {sample["doc_id"]: sample["doc"] for sample in samples}
    answers = {sample["doc_id"]: sample["resps"] for sample in samples}
    assert list(documents) == list(range(len(documents))), "samples are sorted and complete"
    with benchmark.environment(data_dir), quiet_lm_eval(benchmark.name), fixed_seeds():
        task = benchmark.harness_task({"test": list(documents.values())}, num_fewshot=0)
        task.config.process_docs = None  # recorded documents are processed already
        task.set_fewshot_seed(0)
        output: Any = evaluate(
            lm=RecordedAnswers(answers),
            task_dict={"tasks": {benchmark.name: task}},
            bootstrap_iters=0,
        )
    metrics = benchmark.document_metrics(output["samples"][benchmark.name])
    return {name: metric.value for name, metric in metrics.items()}


class RecordedAnswers(LM):
    """A model that replays recorded answers."""

    def __init__(self, answers: Mapping[int, Sequence[Sequence[Any]]]):
        """Replays answers, document -> request -> repeats."""
        super().__init__()
        self.answers = answers

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Recorded texts."""
        return [str(answer) for answer in self._replay(requests)]

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Recorded log-likelihoods, parsed from text."""
        return [(float(value), greedy == "True") for value, greedy in self._replay(requests)]

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Recorded log-likelihoods of whole texts."""
        return [float(answer) for answer in self._replay(requests)]

    def _replay(self, requests: list[Instance]) -> Iterator[Any]:
        repeats: dict[tuple[Any, int], int] = defaultdict(int)
        for request in requests:
            assert request.doc_id is not None
            repeat = repeats[request.doc_id, request.idx]
            repeats[request.doc_id, request.idx] += 1
            yield self.answers[request.doc_id][request.idx][repeat]


def _line(sample: Sample) -> str:
    """A record in lm-eval's file format: numbered arguments, answers as text."""
    arguments = {
        f"gen_args_{i}": {f"arg_{j}": part for j, part in enumerate(each)}
        for i, each in enumerate(sample["arguments"])
    }
    record = {
        **sample,
        "arguments": arguments,
        "resps": sanitize_list(sample["resps"]),
        "filtered_resps": sanitize_list(sample["filtered_resps"]),
        "target": str(sample["target"]),
    }
    return json.dumps(record, default=handle_non_serializable, ensure_ascii=False) + "\n"
