"""`evals/<benchmark>/<protocol>.json`: results of one benchmark and what was evaluated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from alps.base.atomic import write_json
from alps.base.provenance import utc_now, versions_of
from alps.base.serialization import from_dict, to_dict, with_current_targets
from alps.runs.folder import RunFolder
from alps.runs.result import RunFailed
from alps.settings.interfaces import Benchmark

SCHEMA_VERSION = 1
PACKAGES = ("alps", "lm-eval", "evalplus", "transformers", "torch", "vllm")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One benchmark under one protocol.

    Attributes:
        benchmark: Its settings, including limit and protocol.
        weights: Fingerprint of the evaluated weights.
        documents: Hash of the documents, or None if unknown.
        metrics: Name -> value; the first is the headline.
        uncertainty: Metric -> `stderr`, `low` and `high` of the 95 % interval.
        num_documents: Documents judged.
        details: Further results of the benchmark.
        backend: What generated the answers.
        precision: In which the model ran: `32`, `tf32` or `bf16`.
        seconds: Wall time of the last attempt.
        generation: In that attempt, over all ranks: `answers` and their `tokens`, the longest
            rank's `seconds`, and `tokens_per_second` of generated text.
        versions: Package -> version.
        finished_at: UTC time.
        schema_version: Version of this file's schema.
    """

    benchmark: Mapping[str, Any]
    weights: str
    documents: str | None = None
    metrics: Mapping[str, float]
    uncertainty: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    num_documents: int
    details: Mapping[str, Any] = field(default_factory=dict)
    backend: str = "hf"
    precision: str = "32"
    seconds: float = 0.0
    generation: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=lambda: versions_of(PACKAGES))
    finished_at: str = field(default_factory=lambda: utc_now())
    schema_version: int = SCHEMA_VERSION

    @property
    def name(self) -> str:
        """Name of the benchmark."""
        return self.benchmark["name"]

    @property
    def protocol(self) -> str:
        """Protocol of the prompts."""
        return self.benchmark["protocol"]

    def matches(self, benchmark: Benchmark, weights: str, data_dir: Path | None) -> bool:
        """Whether benchmark settings, documents and weights are the same."""
        documents = benchmark.fingerprint(data_dir)
        same_documents = None in (documents, self.documents) or documents == self.documents
        settings = json.loads(json.dumps(to_dict(benchmark)))
        return self.weights == weights and self.benchmark == settings and same_documents

    def write(self, folder: RunFolder) -> None:
        """Writes the file atomically."""
        write_json(folder.evaluation_path(self.name, self.protocol), asdict(self))


def flat_scores(
    evals: Mapping[str, Mapping[str, float]],
    uncertainty: Mapping[str, Mapping[str, Mapping[str, float]]],
) -> dict[str, float]:
    """Scores as loggers name them: `gsm8k/acc`, with `/low`, `/high` and `/stderr` behind it.

    Args:
        evals: Benchmark -> metric -> value.
        uncertainty: Benchmark -> metric -> `stderr`, and `low` and `high` of the 95 % interval.
    """
    flat = {}
    for benchmark, metrics in evals.items():
        for metric, value in metrics.items():
            flat[f"{benchmark}/{metric}"] = value
            bounds = uncertainty.get(benchmark, {}).get(metric, {})
            flat |= {f"{benchmark}/{metric}/{name}": bound for name, bound in bounds.items()}
    return flat


def read_evaluation(folder: RunFolder, benchmark: str, protocol: str) -> Evaluation | None:
    """The stored evaluation, or None.

    Raises:
        RunFailed: If the file is damaged or has another schema.
    """
    path = folder.evaluation_path(benchmark, protocol)
    try:
        found = _evaluation(json.loads(path.read_text()))
        if [found.benchmark.get(n) for n in ("name", "protocol")] != [benchmark, protocol]:
            raise ValueError(f"it is not of {benchmark} under the protocol {protocol}")
        return found
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        text = " ".join(str(error).split())
        raise RunFailed(f"{path} cannot be read ({text}); delete it to make it again") from None


def cached_evaluation(
    benchmark: Benchmark,
    folder: RunFolder,
    weights: str,
    data_dir: Path | None,
    precision: str = "auto",
) -> Evaluation | None:
    """The stored evaluation, if settings, documents and weights are the same.

    Args:
        benchmark: The benchmark.
        folder: Folder with the results.
        weights: Fingerprint of the weights.
        data_dir: Folder with local documents, or None for the hub's.
        precision: Precision that it must have, or `auto` for any.
    """
    try:
        found = read_evaluation(folder, benchmark.name, benchmark.protocol)
    except RunFailed:  # evaluated again
        return None
    if found is None or precision not in ("auto", found.precision):
        return None
    return found if found.matches(benchmark, weights, data_dir) else None


def _evaluation(plain: Any) -> Evaluation:
    """Parses an evaluation.

    Raises:
        ValueError: If it has another schema.
    """
    if not isinstance(plain, Mapping):
        raise ValueError("it holds no evaluation")
    if plain.get("schema_version") != SCHEMA_VERSION:
        raise ValueError(
            f"it has schema {plain.get('schema_version')}, this version reads {SCHEMA_VERSION}"
        )
    known = {f.name for f in fields(Evaluation)}
    own = {k: v for k, v in plain.items() if k in known}
    own["benchmark"] = with_current_targets(own.get("benchmark"))
    return from_dict(own, Evaluation, check=False)
