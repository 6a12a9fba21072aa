"""All benchmarks of a set, each computed once and remembered beside the weights it judges."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict

from alps.evals.subject import Scorecard, Subject
from alps.families import Benchmark
from alps.plain import to_plain
from alps.results import RunFolder, utc_now, write_json
from alps.settings import Evals

log = logging.getLogger(__name__)

Found = dict[str, dict[str, float]]
"""benchmark -> metric -> value."""


def evaluate(evals: Evals, folder: RunFolder, subject: Callable[[], Subject]) -> Found:
    """Metrics of every benchmark that may run.

    Args:
        evals: The set.
        folder: Where `evals/<benchmark>/<protocol>.json` is read and written.
        subject: Loads the model; called only if a benchmark has no result yet.
    """
    found: Found = {}
    loaded: Subject | None = None
    for benchmark in evals.benchmarks:
        if benchmark not in evals.allowed:
            log.warning(
                "%s executes generated code without protection and is skipped; "
                "evals.allow_unsafe_code=true runs it",
                benchmark.name,
            )
            continue
        metrics = remembered(benchmark, folder)
        if metrics is None:
            loaded = loaded or subject()
            metrics = _evaluate_one(benchmark, folder, loaded)
        found[benchmark.name] = dict(metrics)
    return found


def remembered(benchmark: Benchmark, folder: RunFolder) -> Mapping[str, float] | None:
    """The stored metrics, if they were computed under the same settings."""
    path = folder.evaluation_path(benchmark.name, benchmark.protocol)
    try:
        stored = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return stored["metrics"] if stored["benchmark"] == to_plain(benchmark) else None


def all_remembered(evals: Evals, folder: RunFolder) -> bool:
    """Whether `evaluate` would need no model."""
    return all(remembered(b, folder) is not None for b in evals.allowed)


def _evaluate_one(benchmark: Benchmark, folder: RunFolder, subject: Subject) -> Mapping[str, float]:
    log.info("evaluating %s", benchmark.name)
    began = time.perf_counter()
    card: Scorecard = benchmark.evaluate(subject)
    stored = {
        "benchmark": to_plain(benchmark),
        "seconds": round(time.perf_counter() - began, 3),
        "finished_at": utc_now(),
        **asdict(card),
    }
    write_json(folder.evaluation_path(benchmark.name, benchmark.protocol), stored)
    return card.metrics
