"""execute(run): data, base model, task model, heads, training, evaluation, result, in order."""

from __future__ import annotations

import logging
from collections.abc import Callable

from alps.base.atomic import write_json
from alps.evals.evaluate import evaluate
from alps.evals.run_models import trained_context
from alps.heads.head_set import HeadSet
from alps.models.checkpoint import materialize
from alps.pipeline.commits import pin_commits
from alps.pipeline.head_selection import method_context, task_checkpoint
from alps.pipeline.wandb_record import track_run
from alps.runs.completion import is_finished, weights_fingerprint
from alps.runs.folder import RunFolder
from alps.runs.result import Result
from alps.runs.result_assembly import training_result, with_evaluations
from alps.settings.run import Run, Weights

log = logging.getLogger(__name__)

Fit = Callable[[Run], None]
"""Trains a run whose heads are chosen; leaves weights and `training.json` in its folder."""


def execute(run: Run, fit: Fit, needs: Weights = "drop") -> Result:
    """The paper's Algorithm 1 for one run; finished steps are not repeated.

    Args:
        run: The run to train.
        fit: How to train it (in this process, or in worker processes).
        needs: Weights that the caller needs. A run whose weights were deleted (`weights=drop`) is
            trained again if they are needed here or for a benchmark.

    Raises:
        RunFailed: If the run cannot go on; its folder stays for the next attempt.
    """
    folder = RunFolder(run.folder)
    with folder.lock(on_wait=lambda: log.info("%s: another process is at it; waiting", run.key)):
        if is_finished(run, folder) and folder.has_weights(needs):
            if folder.status()["state"] != "finished":  # the missing benchmark is no longer asked
                folder.set_status("finished")
            return Result.read(folder.result_path)
        folder.remove_partial_files()
        folder.write_run(run)
        with folder.record_status():
            if not folder.has_weights():
                pin_commits(run, folder)  # data and base model
                if not folder.training_path.exists():  # else only the weights were deleted
                    heads = choose_heads(run, fit)  # lines 1 to 9
                    if heads is not None:
                        write_json(folder.heads_path, heads.to_json())
                fit(run)  # lines 10 to 13
            result, weights = training_result(run, folder), weights_fingerprint(run)
            evaluations = evaluate(run.evals, folder, weights, lambda: trained_context(run))
            result = with_evaluations(result, evaluations, folder)
            result.write(folder.result_path)
        track_run(run)
        return result


def choose_heads(run: Run, fit: Fit) -> HeadSet | None:
    """Algorithm 1, lines 1 to 9: heads with the highest scores between base and task model."""
    base = materialize(run.model)
    if (task_run := run.task_run()) is not None:
        log.info("%s needs the task model %s", run.key, task_run.key)
        execute(task_run, fit, needs="qkv")
    task = task_checkpoint(run)
    return run.method.choose(method_context(run, base, task))
