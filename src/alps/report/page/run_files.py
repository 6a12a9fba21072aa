"""Loss curves, head sets and samples of a run's folder, bounded in size."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from alps.evals.samples import read_samples, samples_path
from alps.report.outcomes import Score
from alps.report.page.page_run import PageRun
from alps.runs.metrics import read_metrics

MAX_POINTS = 200
"""Points of a loss curve; a longer one is thinned."""

MAX_TEXT = 700
"""Characters of a text in a sample; a longer one is cut."""


def rounded(value: Any, digits: int = 6) -> float | int | None:
    """A number rounded to significant digits; None for what JSON cannot hold."""
    number = float(value)
    if number != number or number in (float("inf"), float("-inf")):
        return None
    short = float(f"{number:.{digits}g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short


def thinned(count: int, most: int = MAX_POINTS) -> list[int]:
    """At most `most` of `count` indices, evenly spread, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})


def loss_curve(run: PageRun) -> dict[str, Any] | None:
    """Loss by step, tokens and seconds, or None before the first step; counts are exact.

    Raises:
        ValueError: If `metrics.csv` is damaged.
    """
    rows = read_metrics(run.folder.metrics_path) if run.folder else []
    if not rows or run.is_base:
        return None
    chosen = [rows[i] for i in thinned(len(rows))]
    digits = {"step": 17, "loss": 5, "tokens": 17, "seconds": 6}
    columns = {name: [rounded(row[name], d) for row in chosen] for name, d in digits.items()}
    return {"total": len(rows), **columns}


def head_set(run: PageRun) -> dict[str, Any] | None:
    """Chosen heads and scores, or None for a method without heads.

    Raises:
        ValueError: If `heads.json` is damaged.
    """
    found = run.localized
    if run.folder and not run.is_base:
        found = run.folder.read_heads()
    if found is None:
        return None
    g = found.geometry
    return {
        "metric": found.metric,
        "layers": g.num_layers,
        "heads": g.num_heads,
        "groups": g.num_kv_heads,
        "chosen": [layer * g.num_heads + head for layer, head in found.heads],
        "scores": None
        if found.scores is None
        else [[rounded(score) for score in row] for row in found.scores],
    }


@dataclass(frozen=True)
class Sample:
    """A document with the model's answer.

    Attributes:
        document: Number or name of the document.
        prompt: What the model was asked.
        answer: What it answered.
        target: The reference, or empty.
        verdict: Value of the headline metric for this document; 1 is right.
        reason: Why the answer failed, where that is recorded.
    """

    document: str
    prompt: str
    answer: str
    target: str = ""
    verdict: float | None = None
    reason: str = ""


def samples(run: PageRun, benchmark: str, most: int) -> tuple[list[Sample], int]:
    """The first samples of a benchmark, and the number of its documents.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If a file is damaged.
    """
    score = run.outcome.score(benchmark) if run.outcome else None
    if run.folder is None or not isinstance(score, Score) or score.evaluation is None:
        return [], 0
    evaluation = score.evaluation
    folder = run.folder.evaluation_path(benchmark, evaluation.protocol).with_suffix("")
    for compressed in (False, True):
        if samples_path(folder, benchmark, compressed).is_file():
            found = _harness_samples(folder, benchmark, evaluation.benchmark)
            return list(islice(found, most)), evaluation.num_documents
    # A plus benchmark shares the programs of its base benchmark.
    shared = folder.parent.parent / benchmark.removesuffix("_plus") / folder.name
    for place in (folder, shared):
        if (place / "verdicts.json").is_file() and (place / "samples.jsonl").is_file():
            found = _programs(place, evaluation.benchmark.get("tests") == "plus")
            return list(islice(found, most)), evaluation.num_documents
    return [], evaluation.num_documents


def _harness_samples(folder: Path, name: str, benchmark: Mapping[str, Any]) -> Iterator[Sample]:
    """Samples as lm-eval writes them, of the headline's filter."""
    headline = next(iter((benchmark.get("metrics") or {"": ""}).values()))
    metric, _, wanted = str(headline).partition(",")
    for record in read_samples(folder, name):
        if wanted and record.get("filter", wanted) != wanted:
            continue
        arguments = next(iter((record.get("arguments") or {}).values()), {})
        answers = record.get("filtered_resps") or record.get("resps") or [""]
        yield Sample(
            document=str(record.get("doc_id", "")),
            prompt=_text(arguments.get("arg_0", "") if isinstance(arguments, Mapping) else ""),
            answer=_text(answers[0] if len(answers) == 1 else answers),
            target=_text(record.get("target", "")),
            verdict=_verdict(record.get(metric)),
        )


def _programs(folder: Path, plus: bool) -> Iterator[Sample]:
    """Programs with the sandbox's verdicts, as EvalPlus benchmarks write them."""
    notes = json.loads((folder / "verdicts.json").read_text())["notes"]
    problems = {p["task_id"]: p for p in _lines(folder / "problems.jsonl")}
    for record in _lines(folder / "samples.jsonl"):
        task = record["task_id"]
        note, problem = notes.get(task, {}), problems.get(task, {})
        suites = ("base", "plus") if plus else ("base",)
        passed = [note.get("hardened", {}).get(suite) == "pass" for suite in suites]
        yield Sample(
            document=task,
            prompt=_text(problem.get("prompt", "")),
            answer=_text(record.get("solution", "")),
            target=_text(problem.get("canonical_solution", "")),
            verdict=float(all(passed)) if note else None,
            reason=str(note.get("reason") or ""),
        )


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if path.is_file():
        with path.open(encoding="utf-8") as file:
            yield from (json.loads(line) for line in file if line.strip())


def _verdict(value: Any) -> float | None:
    return float(value) if isinstance(value, bool | int | float) else None


def _text(value: Any) -> str:
    """A text of bounded length; its end says how much is missing."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    more = len(text) - MAX_TEXT
    return text if more <= 0 else f"{text[:MAX_TEXT]} … ({more:,} more characters)"
