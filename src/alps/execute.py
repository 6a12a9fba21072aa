"""execute(run): data, base model, task model, heads, training, evaluation, result, in order."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from alps.base.atomic import write_json
from alps.evals.context import EvaluationContext
from alps.evals.evaluate import evaluate, evaluation_context, metrics_of, uncertainty_of
from alps.heads.head_set import HeadSet
from alps.methods.context import Context
from alps.methods.scored import Scored
from alps.models.architecture import read_geometry
from alps.models.checkpoint import fetch, hub_commit, materialize, materialize_qkv
from alps.runs.completion import (
    base_result,
    evaluation_folders,
    is_evaluated,
    is_finished,
    weights_fingerprint,
)
from alps.runs.evaluation import Evaluation
from alps.runs.folder import RunFolder
from alps.runs.result import Result, RunFailed
from alps.settings.model import Model
from alps.settings.run import Run, TaskModel, Weights

log = logging.getLogger(__name__)

Fit = Callable[[Run], None]
"""Trains a run whose heads are chosen, and leaves weights and `training.json` in its folder."""


def execute(run: Run, fit: Fit, needs: Weights = "drop") -> Result:
    """The paper's Algorithm 1 for one run; what is finished already is not done again.

    Args:
        run: What to train.
        fit: How to train it (here, or in worker processes).
        needs: How much of its weights the caller needs; a run whose weights were deleted
            (`weights=drop`) and are needed for this, or for a benchmark, is trained again.

    Raises:
        RunFailed: If the run could not go on; its folder stays for the next attempt.
    """
    folder = RunFolder(run.folder)
    with folder.lock(waiting=lambda: log.info("%s: another process is at it; waiting", run.key)):
        if is_finished(run, folder) and folder.trained(needs):
            if folder.status()["state"] != "finished":  # a benchmark that nobody asks for any more
                folder.set_status("finished")
            return Result.read(folder.result_path)
        folder.remove_torn_files()
        folder.write_run(run)
        with _recorded(folder):
            if not folder.trained():
                remember_commits(run, folder)
                if not folder.training_path.exists():  # else they are chosen, the weights deleted
                    heads = choose_heads(run, fit)
                    if heads is not None:
                        write_json(folder.heads_path, heads.to_json())
                fit(run)
            result = describe(run, folder)
            weights = weights_fingerprint(run)
            found = evaluate(run.evals, folder, weights, lambda: trained_context(run))
            result = with_scores(result, found, folder)
            result.write(folder.result_path)
        return result


def remember_commits(run: Run, folder: RunFolder) -> None:
    """Records what the revisions of model and data mean; a run goes on with nothing else.

    Raises:
        RunFailed: If a revision meant another commit when the run began.
    """
    found = {"model": hub_commit(fetch(run.model)), "data": run.data.commit()}
    now = {name: commit for name, commit in found.items() if commit}
    before = _commits(folder)
    for name in before.keys() & now.keys():
        if before[name] != now[name]:
            raise RunFailed(
                f"the {name}'s revision was {before[name][:12]} on the hub when this run began and "
                f"is {now[name][:12]} now: set {name}.revision={before[name]}, or delete "
                f"{folder.path} to begin again"
            )
    write_json(folder.commits_path, {**now, **before})


def choose_heads(run: Run, fit: Fit) -> HeadSet | None:
    """Lines 1 to 9: scores between base and task model, and the heads on top of them."""
    base = materialize(run.model)
    context = Context(
        geometry=read_geometry(base),
        seed=run.seed,
        base=base,
        base_hash=run.model.fingerprint(),
        output_dir=Path(run.output_dir),
    )
    wanted: TaskModel | None = getattr(run.method, "task_model", None)
    if wanted is not None:
        task, task_hash = task_checkpoint(run, wanted, fit)
        context = replace(context, task=task, task_hash=task_hash)
    return run.method.choose(context)


def heads_without_training(run: Run) -> HeadSet | None:
    """The heads that a run with a scored method chooses, of a task model that is trained already.

    They are the run's own, where it has some; else they follow from the scores of base and task
    model, which are computed where they are not remembered.

    Raises:
        RunFailed: If the task model is not trained, or its weights were deleted unscored.
    """
    task_run, method = run.task_run(), run.method
    if (own := RunFolder(run.folder).read_heads()) is not None:
        return own
    if task_run is None or not isinstance(method, Scored):
        return choose_heads(run, fit=lambda _: None)  # nothing would be trained for it
    place = {"output_dir": Path(run.output_dir), "base_hash": run.model.fingerprint()}
    scores = method.cached_scores(**place, task_hash=task_run.key)
    if scores is not None:  # neither checkpoint is opened
        base = task = run.folder
        geometry = scores.geometry
    elif lacking := RunFolder(task_run.folder).lacks("qkv"):
        raise RunFailed(lacking)
    else:
        from alps.training.restore import scorable_checkpoint

        base, task = materialize(run.model), scorable_checkpoint(task_run)
        geometry = read_geometry(base)
    about = {**place, "task_hash": task_run.key, "seed": run.seed}
    return method.choose(Context(geometry=geometry, base=base, task=task, **about))


def task_checkpoint(run: Run, wanted: TaskModel, fit: Fit) -> tuple[Path, str]:
    """The task model's checkpoint and content: given by path, or made by a run of its own."""
    task_run = run.task_run()
    if task_run is None:
        model = Model(name=wanted.name, path=wanted.path)
        return materialize_qkv(model), model.fingerprint()
    from alps.training.restore import scorable_checkpoint

    log.info("%s needs the task model %s", run.key, task_run.key)
    execute(task_run, fit, needs="qkv")
    return scorable_checkpoint(task_run), task_run.key


def describe(run: Run, folder: RunFolder) -> Result:
    """The result of a training, before any benchmark."""
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
        commits=_commits(folder),
        **measured,
    )


def trained_context(run: Run) -> EvaluationContext:
    """The trained model, ready to be examined: its frozen weights kept as they were in training."""
    from alps.models.apply import cast_frozen
    from alps.training.restore import restore

    model = restore(run)
    cast_frozen(model, run.optim.frozen_dtype)
    checkpoint = merged_checkpoint(run) if run.evals.backend == "vllm" else None
    return evaluation_context(run, _on_device(model), checkpoint)


def merged_checkpoint(run: Run) -> Path:
    """The trained model as a folder that other programs load; made once."""
    from alps.models.export import export_run
    from alps.training.restore import restore

    folder = RunFolder(run.folder)
    path = folder.path / "merged"
    if not path.exists():
        export_run(run, "hf", path, restore, folder)
    return path


def evaluate_base(run: Run) -> Result | None:
    """The base model under the run's benchmarks: the row `base` of a table, if it has some.

    Lives in `outputs/evals/base-<12 hex>`, named by model and template; what reads the run's data,
    in another such folder, named by the data, too.
    """
    subject = cache(lambda: base_context(run))
    for place in evaluation_folders(run, trained=False):
        with place.folder.lock():
            if is_evaluated(place):
                continue
            found = evaluate(place.evals, place.folder, place.weights, subject)
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
            with_scores(result, found, place.folder).write(place.folder.result_path)
    return base_result(run)


def base_context(run: Run) -> EvaluationContext:
    """The base model, ready to be examined."""
    from alps.models.load import load_model

    base = materialize(run.model)
    return evaluation_context(run, _on_device(load_model(base)), checkpoint=base)


def with_scores(result: Result, found: Mapping[str, Evaluation], folder: RunFolder) -> Result:
    """The result with its benchmarks; those of an earlier call stay."""
    earlier = Result.read(folder.result_path) if folder.result_path.exists() else result
    return replace(
        result,
        evals={**earlier.evals, **metrics_of(found)},
        uncertainty={**earlier.uncertainty, **uncertainty_of(found)},
    )


def _commits(folder: RunFolder) -> dict[str, str]:
    return json.loads(folder.commits_path.read_text()) if folder.commits_path.exists() else {}


def _on_device(model: Any) -> Any:
    import torch

    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def _recorded(folder: RunFolder) -> Iterator[None]:
    folder.set_status("running")
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        folder.set_status("failed", str(error) or type(error).__name__)
        raise
    except SystemExit:
        folder.set_status("stopped", "stopped by a signal; the same command goes on from here")
        raise
    folder.set_status("finished")
