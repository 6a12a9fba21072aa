"""What is examined: a run's trained model or a base model, with all a benchmark needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alps.evals.subject import Subject
from alps.identity import digest
from alps.models.checkpoint import materialize
from alps.run_folder import RunFolder
from alps.settings import Run

if TYPE_CHECKING:
    from torch import nn


def trained_weights(run: Run) -> str:
    """Names the weights a training made: the run, and which of its trainings."""
    return digest([run.key, RunFolder(run.folder).training])


def base_weights(run: Run) -> str:
    """Names the weights of the base model, and the data that ask in their template."""
    return digest([run.base_key, run.model.fingerprint()])


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
