"""What of a run is done already, and where the evaluations of its models are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from alps.base.hashing import digest
from alps.runs.evaluation import cached_evaluation
from alps.runs.folder import RunFolder
from alps.runs.result import Result
from alps.settings.infrastructure import Evals
from alps.settings.interfaces import Benchmark
from alps.settings.run import Run


def is_finished(run: Run, folder: RunFolder) -> bool:
    """Whether weights, result and every benchmark asked for are there."""
    return (
        folder.result_path.exists()
        and folder.training_path.exists()
        and all_evaluated(run.evals, folder, weights_fingerprint(run))
        and {b.name for b in run.evals.allowed} <= set(Result.read(folder.result_path).evals)
    )


def base_is_finished(run: Run) -> bool:
    """Whether every benchmark asked for is there of the base model."""
    return all(map(is_evaluated, evaluation_folders(run, trained=False)))


def is_evaluated(place: EvaluationFolder) -> bool:
    """Whether every benchmark of the place has a result."""
    done = place.folder.result_path.exists()
    return done and all_evaluated(place.evals, place.folder, place.weights)


def missing_benchmarks(evals: Evals, folder: RunFolder, weights: str) -> Sequence[Benchmark]:
    """Benchmarks that may run and have no result of these weights yet."""
    place = evals.documents_dir
    return [b for b in evals.allowed if cached_evaluation(b, folder, weights, place) is None]


def all_evaluated(evals: Evals, folder: RunFolder, weights: str) -> bool:
    """Whether `evaluate` would need no model."""
    return not missing_benchmarks(evals, folder, weights)


@dataclass(frozen=True, kw_only=True)
class EvaluationFolder:
    """Where some benchmarks of a model are kept.

    Attributes:
        folder: The folder.
        weights: Names the weights; empty for those that no training has made yet.
        evals: The benchmarks.
    """

    folder: RunFolder
    weights: str
    evals: Evals


def evaluation_folders(run: Run, trained: bool) -> list[EvaluationFolder]:
    """Where the run's benchmarks are kept.

    A base model answers the same prompts whatever the data, so one evaluation serves the runs of
    all data; benchmarks that read the data have a folder of their own for each.

    Args:
        run: The run.
        trained: Whether its trained model is examined, or its base model.
    """
    if trained:
        folder = RunFolder(run.folder)
        weights = weights_fingerprint(run) if folder.training_path.exists() else ""
        return [EvaluationFolder(folder=folder, weights=weights, evals=run.evals)]
    found = []
    for folder, reads_data in ((run.base_folder, False), (run.base_data_folder, True)):
        own = tuple(b for b in run.evals.benchmarks if b.reads_data == reads_data)
        weights = digest([folder.name, run.model.fingerprint()])
        evals = replace(run.evals, benchmarks=own)
        found.append(EvaluationFolder(folder=RunFolder(folder), weights=weights, evals=evals))
    return [place for place in found if place.evals.benchmarks]


def base_result(run: Run) -> Result | None:
    """What is known of the run's base model, the benchmarks that read the run's data included.

    Raises:
        RunFailed: If a file cannot be read.
    """
    folders = (RunFolder(run.base_data_folder), RunFolder(run.base_folder))
    found = [Result.read(f.result_path) for f in folders if f.result_path.exists()]
    if not found:
        return None
    return replace(
        found[-1],
        data=run.data.name,
        data_hash=run.data.fingerprint(),
        evals={name: scores for each in found for name, scores in each.evals.items()},
        uncertainty={name: sure for each in found for name, sure in each.uncertainty.items()},
    )


def weights_fingerprint(run: Run) -> str:
    """Names the weights a training made: the run, and which of its trainings."""
    return digest([run.key, RunFolder(run.folder).training])
