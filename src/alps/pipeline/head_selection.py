"""Inputs from which a method chooses heads, for a run and for a preview without training."""

from __future__ import annotations

from pathlib import Path

from alps.heads.head_set import HeadSet
from alps.methods.context import Context
from alps.methods.scored import Scored
from alps.models.architecture import read_geometry
from alps.models.checkpoint import materialize, materialize_qkv
from alps.pipeline.checkpoints import ResolvedCheckpoint
from alps.runs.folder import RunFolder
from alps.runs.result import RunFailed
from alps.settings.model import Model
from alps.settings.run import Run, TaskModel


def task_checkpoint(run: Run) -> ResolvedCheckpoint | None:
    """The task model, from `task_model.path` or from its finished run; None if none is needed."""
    wanted: TaskModel | None = getattr(run.method, "task_model", None)
    if wanted is None:
        return None
    task_run = run.task_run()
    if task_run is None:
        model = Model(name=wanted.name, path=wanted.path)
        return ResolvedCheckpoint(materialize_qkv(model), model.fingerprint())
    from alps.training.restore import scorable_checkpoint

    return ResolvedCheckpoint(scorable_checkpoint(task_run), task_run.key)


def method_context(run: Run, base: Path, task: ResolvedCheckpoint | None = None) -> Context:
    """Inputs of `Method.choose`.

    Args:
        run: The run.
        base: Checkpoint of its base model.
        task: Checkpoint of its task model, if the method scores heads.
    """
    return Context(
        geometry=read_geometry(base),
        seed=run.seed,
        base=base,
        base_hash=run.model.fingerprint(),
        output_dir=Path(run.output_dir),
        task=task.path if task else None,
        task_hash=task.identity if task else None,
    )


def heads_without_training(run: Run) -> HeadSet | None:
    """Heads that the run has chosen or would choose, without training anything.

    A scored method needs cached scores or a trained task model.

    Raises:
        RunFailed: If the task model is not trained, or its weights were deleted unscored.
    """
    if (own := RunFolder(run.folder).read_heads()) is not None:
        return own
    task_run, method = run.task_run(), run.method
    if task_run is not None and isinstance(method, Scored):
        hashes = {"base_hash": run.model.fingerprint(), "task_hash": task_run.key}
        place = {"output_dir": Path(run.output_dir), **hashes}
        scores = method.cached_scores(**place)
        if scores is not None:  # neither checkpoint is opened
            unread = {"base": run.folder, "task": run.folder}
            context = Context(geometry=scores.geometry, seed=run.seed, **unread, **place)
            return method.choose(context)
        if reason := RunFolder(task_run.folder).missing_weights_reason("qkv"):
            raise RunFailed(reason)
    base = materialize(run.model)
    return method.choose(method_context(run, base, task_checkpoint(run)))
