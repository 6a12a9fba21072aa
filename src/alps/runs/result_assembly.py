"""A run's result, assembled from its training, heads, commits and evaluations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from alps.runs.evaluation import Evaluation
from alps.runs.folder import RunFolder
from alps.runs.result import Result
from alps.settings.run import Run


def training_result(run: Run, folder: RunFolder) -> Result:
    """The result of a finished training, without benchmarks."""
    heads = folder.read_heads()
    measured = json.loads(folder.training_path.read_text())
    measured.pop("training", None)
    return Result(
        key=run.key,
        model=run.model.name,
        data=run.data.name,
        method=run.method.name,
        ratio=getattr(run.method, "ratio", None),
        scope=getattr(run.method, "scope", None),
        seed=run.seed,
        num_heads_selected=len(heads.heads) if heads else None,
        score_mass=heads.score_mass() if heads else None,
        evals={},
        data_hash=run.data.fingerprint(),
        base_hash=run.model.fingerprint(),
        commits=folder.read_commits(),
        **measured,
    )


def with_evaluations(
    result: Result, evaluations: Mapping[str, Evaluation], folder: RunFolder
) -> Result:
    """The result with these benchmarks and those that the folder's result already has.

    Args:
        result: Result of the training, or of a base model.
        evaluations: Benchmark -> evaluation.
        folder: Folder of the result.
    """
    earlier = Result.read(folder.result_path) if folder.result_path.exists() else result
    metrics = {name: evaluation.metrics for name, evaluation in evaluations.items()}
    uncertainty = {name: evaluation.uncertainty for name, evaluation in evaluations.items()}
    return replace(
        result,
        evals={**earlier.evals, **metrics},
        uncertainty={**earlier.uncertainty, **uncertainty},
    )
