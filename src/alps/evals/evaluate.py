"""All benchmarks of a set, each computed once and remembered beside the weights it judges.

The same engine behind all that examine a model: the callback of a training, `alps evaluate run=...`
and `alps evaluate model=...`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from alps.base.serialization import to_dict
from alps.evals.context import EvaluationContext, GenerationCounts
from alps.models.checkpoint import materialize
from alps.runs.completion import missing_benchmarks
from alps.runs.evaluation import Evaluation, cached_evaluation
from alps.runs.folder import RunFolder
from alps.settings.infrastructure import Evals
from alps.settings.interfaces import Benchmark
from alps.settings.run import Run

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)


def evaluate(
    evals: Evals, folder: RunFolder, weights: str, subject: Callable[[], EvaluationContext]
) -> dict[str, Evaluation]:
    """Evaluation of every benchmark that may run, by name.

    Several ranks may call it together: they share the documents, and rank 0 writes.

    Args:
        evals: The set.
        folder: Where `evals/<benchmark>/<protocol>.json` is read and written.
        weights: Hash of what is examined.
        subject: Loads the model; called only if a benchmark has no result yet.

    Raises:
        ValueError: If a benchmark's documents or packages are missing, or one that was asked for
            would run generated code unprotected; one sentence.
    """
    problems = _agreed(refusals(evals, folder, weights))  # rank 0 judges: its machine counts
    if problems:
        raise ValueError(problems[0])
    _warn(evals)
    names = _agreed([b.name for b in missing_benchmarks(evals, folder, weights)])
    todo = [b for b in evals.benchmarks if b.name in names]
    for benchmark in todo:
        benchmark.ready(evals.documents_dir)
    loaded = subject() if todo else None
    for benchmark in todo:
        assert loaded is not None
        consent = evals.allow_unsafe_code
        mine = replace(loaded, weights=weights, allow_unsafe_code=consent)
        _evaluate_one(benchmark, folder, mine)
    _wait()
    pairs = [
        (b, cached_evaluation(b, folder, weights, evals.documents_dir)) for b in evals.benchmarks
    ]
    return {benchmark.name: evaluation for benchmark, evaluation in pairs if evaluation}


def refusals(evals: Evals, folder: RunFolder, weights: str) -> list[str]:
    """Why benchmarks that were asked for, and have no result yet, may not run: a sentence, or none.

    Args:
        evals: The set.
        folder: Where results are.
        weights: Hash of what is examined.
    """
    from alps.evals.sandbox.sandbox import no_sandbox

    place = evals.documents_dir
    names = [b.name for b in evals.refused if cached_evaluation(b, folder, weights, place) is None]
    return [f"{', '.join(names)}: {no_sandbox()}"] if names else []


def _warn(evals: Evals) -> None:
    from alps.evals.sandbox.sandbox import no_sandbox

    for benchmark in evals.benchmarks:
        if benchmark.protected():
            continue
        if evals.allow_unsafe_code:
            log.warning("%s executes generated code without any protection", benchmark.name)
        else:
            log.warning("%s is skipped: %s", benchmark.name, no_sandbox())


def _evaluate_one(benchmark: Benchmark, folder: RunFolder, subject: EvaluationContext) -> None:
    log.info("evaluating %s", benchmark.name)
    began = time.perf_counter()
    path = folder.evaluation_path(benchmark.name, benchmark.protocol)
    documents = benchmark.fingerprint(subject.data_dir)
    subject = replace(subject, folder=path.with_suffix(""), work=GenerationCounts())
    card = benchmark.evaluate(subject)
    generation = _over_ranks(subject.work)
    if card is None:
        return
    Evaluation(
        benchmark=to_dict(benchmark),
        weights=subject.weights,
        documents=documents,
        metrics=card.metrics,
        uncertainty={name: asdict(value) for name, value in card.uncertainty.items()},
        num_documents=card.num_documents,
        details=card.details,
        backend=subject.backend,
        seconds=round(time.perf_counter() - began, 3),
        generation=generation,
    ).write(folder)


def _over_ranks(work: GenerationCounts) -> dict[str, float]:
    import torch.distributed as dist

    works = [work]
    if dist.is_available() and dist.is_initialized():
        works = [GenerationCounts()] * dist.get_world_size()
        dist.all_gather_object(works, work)
    seconds = max(w.seconds for w in works)
    tokens = sum(w.num_tokens for w in works)
    return {
        "answers": sum(w.num_answers for w in works),
        "tokens": tokens,
        "seconds": round(seconds, 3),
        "tokens_per_second": round(tokens / seconds, 2) if seconds else 0.0,
    }


def _agreed(names: list[str]) -> list[str]:
    """What rank 0 says: another rank may look a moment later."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        said = [names]
        dist.broadcast_object_list(said, src=0)
        return said[0]
    return names


def _wait() -> None:
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.barrier()


def evaluation_context(
    run: Run, model: nn.Module, checkpoint: Path | None = None
) -> EvaluationContext:
    """A model to be examined under the run's settings.

    Args:
        run: The run: data, tokenizer and how benchmarks are asked.
        model: In evaluation mode, on its device.
        checkpoint: The model as a folder, for backends that load it themselves.
    """
    from alps.evals.engine.language_model import language_model
    from alps.models.load import load_tokenizer

    return EvaluationContext(
        model=model,
        tokenizer=load_tokenizer(materialize(run.model)),
        data=run.data,
        batch_size=run.evals.batch_size,
        folder=run.folder,
        weights="",
        data_dir=run.evals.documents_dir,
        backend=run.evals.backend,
        checkpoint=checkpoint,
        progress=run.trainer.progress,
        engine=language_model,
    )
