"""How every single document of a benchmark was judged, from the samples an evaluation left.

The scores are taken from the samples as the benchmark itself took them, without its harness.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alps.evals.evalplus_benchmark import CodeBenchmark
from alps.evals.evalplus_scoring import Judged
from alps.evals.evaluation import Evaluation
from alps.evals.harness import HarnessTask
from alps.evals.statistics import Part, value
from alps.families import Benchmark
from alps.identity import digest
from alps.plain import from_plain
from alps.run_folder import RunFolder

TOLERANCE = 1e-9


@dataclass(frozen=True, kw_only=True)
class Documents:
    """The headline number of a benchmark, taken apart.

    Attributes:
        pool: Names the documents: two evaluations with the same name asked the same ones, in the
            same order.
        parts: Ratios over the documents; the headline is their mean.
        groups: Group of each document, where ratios of groups are averaged.
    """

    pool: str
    parts: tuple[Part, ...]
    groups: Sequence[Hashable] | None = None


def documents_of(folder: RunFolder, evaluation: Evaluation) -> Documents | None:
    """The documents behind an evaluation's headline.

    Args:
        folder: Of the run, or of the evaluations of a base model.
        evaluation: Read from it.

    Returns:
        None where no samples are kept, or they do not give the number that the evaluation has.
    """
    try:
        benchmark = from_plain(evaluation.benchmark, Benchmark, check=False)
        own = folder.evaluation_path(evaluation.name, evaluation.protocol).with_suffix("")
        found = _of(benchmark, own)
    except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, zlib.error):
        return None
    if found is None or not evaluation.metrics:
        return None
    headline = next(iter(evaluation.metrics.values()))
    same = abs(value(*found.parts, groups=found.groups) - headline) < TOLERANCE
    return found if same else None  # samples of another evaluation under the same name


def _of(benchmark: Benchmark, own: Path) -> Documents | None:
    if isinstance(benchmark, HarnessTask):
        samples = list(_samples(own, benchmark.name))
        if not samples:
            return None
        measure = next(iter(benchmark.measures(samples).values()))
        asked = list(dict.fromkeys((s["doc_id"], s.get("doc_hash", "")) for s in samples))
        groups = measure.groups
        return Documents(pool=digest([benchmark.name, asked]), parts=tuple(measure.parts),
                         groups=groups)  # fmt: skip
    if isinstance(benchmark, CodeBenchmark):
        notes = json.loads((benchmark.folder(own) / "verdicts.json").read_text())["notes"]
        if not notes:
            return None
        notes = {task: notes[task] for task in sorted(notes)}
        passed = Judged({}, notes, "").passed(plus=benchmark.needs_added_tests)
        return Documents(pool=digest(list(passed)), parts=(Part([*map(float, passed.values())]),))
    return None


def _samples(own: Path, name: str) -> Iterator[dict[str, Any]]:
    """lm-eval's records of a task, as `alps.evals.harness_samples` writes them."""
    path = own / f"samples_{name}.jsonl"
    packed = path.with_name(f"{path.name}.gz")
    if packed.is_file():
        with gzip.open(packed, "rt", encoding="utf-8") as file:
            yield from map(json.loads, file)
        return
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)
