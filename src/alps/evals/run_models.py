"""The two models of a run under evaluation: its trained model and its base model."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from alps.evals.context import EvaluationContext
from alps.evals.evaluate import evaluate, evaluation_context
from alps.models.checkpoint import materialize
from alps.runs.completion import base_result, evaluation_folders, is_evaluated
from alps.runs.result import Result
from alps.runs.result_assembly import with_evaluations
from alps.settings.run import Run

if TYPE_CHECKING:
    import torch


def trained_context(run: Run) -> EvaluationContext:
    """The trained model under evaluation; frozen weights keep their dtype of the training."""
    from alps.models.apply import cast_frozen
    from alps.training.restore import merged_checkpoint, restore

    model = restore(run)
    cast_frozen(model, run.optim.frozen_dtype)
    checkpoint = merged_checkpoint(run) if run.evals.backend == "vllm" else None
    return evaluation_context(run, model.eval(), checkpoint, device=_device(run))


def base_context(run: Run) -> EvaluationContext:
    """The base model under evaluation."""
    from alps.models.load import load_model

    base = materialize(run.model)
    model = load_model(base).eval()
    return evaluation_context(run, model, base, trained=False, device=_device(run))


def evaluate_base(run: Run) -> Result | None:
    """Evaluates the base model on the run's benchmarks: the row `base` of a table.

    Results lie in `outputs/evals/base-<12 hex>`, named by model and template; those of benchmarks
    that read the run's data, in a second such folder, named by the data too.

    Returns:
        All that is known of the base model, or None if the run has no benchmarks.
    """
    context = cache(lambda: base_context(run))
    for place in evaluation_folders(run, trained=False):
        with place.folder.lock():
            if is_evaluated(place):
                continue
            evaluations = evaluate(place.evals, place.folder, place.weights, context)
            of_data = place.folder.path == run.base_data_folder
            result = Result(
                key=place.folder.path.name,
                model=run.model.name,
                data=run.data.name if of_data else "",
                method="base",
                num_trainable=0,
                trainable_fraction=0.0,
                evals={},
                data_hash=run.data.fingerprint() if of_data else "",
                base_hash=run.model.fingerprint(),
            )
            result = with_evaluations(result, evaluations, place.folder)
            result.write(place.folder.result_path)
    return base_result(run)


def _device(run: Run) -> torch.device:
    import torch

    from alps.training.prediction import uses_gpu

    return torch.device("cuda" if uses_gpu(run) else "cpu")
