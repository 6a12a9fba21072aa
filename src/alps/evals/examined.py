"""What is examined: a run's trained model or a base model, with all a benchmark needs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from alps.evals.subject import Subject
from alps.identity import digest
from alps.infrastructure import Evals
from alps.models.checkpoint import materialize
from alps.results import Result
from alps.run_folder import RunFolder
from alps.settings import Run

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where some benchmarks of a model are kept.

    Attributes:
        folder: The folder.
        weights: Names the weights; empty for those that no training has made yet.
        evals: The benchmarks.
    """

    folder: RunFolder
    weights: str
    evals: Evals


def places(run: Run, trained: bool) -> list[Place]:
    """Where the run's benchmarks are kept.

    A base model answers the same prompts whatever the data, so one evaluation serves the runs of
    all data; benchmarks that read the data have a folder of their own for each.

    Args:
        run: The run.
        trained: Whether its trained model is examined, or its base model.
    """
    if trained:
        folder = RunFolder(run.folder)
        weights = trained_weights(run) if folder.training_path.exists() else ""
        return [Place(folder=folder, weights=weights, evals=run.evals)]
    found = []
    for folder, reads_data in ((run.base_folder, False), (run.base_data_folder, True)):
        own = tuple(b for b in run.evals.benchmarks if b.reads_data == reads_data)
        weights = digest([folder.name, run.model.fingerprint()])
        evals = replace(run.evals, benchmarks=own)
        found.append(Place(folder=RunFolder(folder), weights=weights, evals=evals))
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


def trained_weights(run: Run) -> str:
    """Names the weights a training made: the run, and which of its trainings."""
    return digest([run.key, RunFolder(run.folder).training])


def subject_of(run: Run, model: nn.Module, checkpoint: Path | None = None) -> Subject:
    """A model to be examined under the run's settings.

    Args:
        run: The run: data, tokenizer and how benchmarks are asked.
        model: In evaluation mode, on its device.
        checkpoint: The model as a folder, for backends that load it themselves.
    """
    from alps.models.load import load_tokenizer

    return Subject(
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
    )
