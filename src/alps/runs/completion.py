"""Which parts of a run are done, and where evaluations of its models are stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from alps.base.hashing import digest
from alps.runs.evaluation import cached_evaluation
from alps.runs.folder import RunFolder
from alps.runs.result import Result, RunFailed
from alps.settings.infrastructure import Evals
from alps.settings.interfaces import Benchmark
from alps.settings.run import Run


def is_finished(run: Run, folder: RunFolder) -> bool:
    """Whether the training, the result and every requested benchmark are done."""
    return (
        folder.result_path.exists()
        and folder.training_path.exists()
        and all_evaluated(run.evals, folder, _weights_fingerprint(folder))
        and {b.name for b in run.evals.allowed} <= set(Result.read(folder.result_path).evals)
    )


def has_nothing_left(run: Run) -> bool:
    """Whether executing the run would do nothing; with a damaged file it would say so."""
    try:
        return is_finished(run, RunFolder(run.folder))
    except RunFailed:
        return False


def missing_task_model(run: Run) -> Run | None:
    """The run of its task model, if that has to be trained before this run chooses heads."""
    task = run.task_run()
    if task is None or RunFolder(run.folder).training_path.exists():  # its heads are chosen
        return None
    return None if RunFolder(task.folder).has_weights("qkv") else task


def num_task_models(run: Run) -> int:
    """Number of task models that a run needs, in a chain."""
    task = run.task_run()
    return 0 if task is None else 1 + num_task_models(task)


def base_is_finished(run: Run) -> bool:
    """Whether every requested benchmark of the base model is done."""
    return all(map(is_evaluated, evaluation_folders(run, trained=False)))


def is_evaluated(place: EvaluationFolder) -> bool:
    """Whether every benchmark of the folder has a result."""
    done = place.folder.result_path.exists()
    return done and all_evaluated(place.evals, place.folder, place.weights)


def missing_benchmarks(evals: Evals, folder: RunFolder, weights: str) -> Sequence[Benchmark]:
    """Benchmarks that may run and have no result for these weights in the requested precision."""
    where = folder, weights, evals.documents_dir, evals.precision
    return [b for b in evals.allowed if cached_evaluation(b, *where) is None]


def all_evaluated(evals: Evals, folder: RunFolder, weights: str) -> bool:
    """Whether `evaluate` would need no model."""
    return not missing_benchmarks(evals, folder, weights)


@dataclass(frozen=True, kw_only=True)
class EvaluationFolder:
    """A folder with results of a model.

    Attributes:
        folder: The folder.
        weights: Fingerprint of the weights; empty before the training.
        evals: The benchmarks.
    """

    folder: RunFolder
    weights: str
    evals: Evals


def evaluation_folders(run: Run, trained: bool) -> list[EvaluationFolder]:
    """Folders with results of the run's benchmarks.

    Prompts do not depend on the data, so runs on any data share one evaluation of a base model;
    benchmarks that read the data have one folder per dataset.

    Args:
        run: The run.
        trained: Whether the trained model is evaluated, or the base model.
    """
    if trained:
        folder = RunFolder(run.folder)
        weights = _weights_fingerprint(folder) if folder.training_path.exists() else ""
        return [EvaluationFolder(folder=folder, weights=weights, evals=run.evals)]
    found = []
    for folder, reads_data in ((run.base_folder, False), (run.base_data_folder, True)):
        own = tuple(b for b in run.evals.benchmarks if b.reads_data == reads_data)
        weights = digest([folder.name, run.model.fingerprint()])
        evals = replace(run.evals, benchmarks=own)
        found.append(EvaluationFolder(folder=RunFolder(folder), weights=weights, evals=evals))
    return [place for place in found if place.evals.benchmarks]


def base_result(run: Run) -> Result | None:
    """All results of the run's base model, including benchmarks that read the run's data.

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
        evals={name: scores for f in found for name, scores in f.evals.items()},
        uncertainty={name: each for f in found for name, each in f.uncertainty.items()},
    )


def weights_fingerprint(run: Run) -> str:
    """Fingerprint of trained weights: the run and its training."""
    return _weights_fingerprint(RunFolder(run.folder))


def _weights_fingerprint(folder: RunFolder) -> str:
    """The same by the run's folder, whose name is the key: keys take time."""
    return digest([folder.path.name, folder.training_id])
