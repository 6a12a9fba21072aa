"""Retention of trained weights: the full checkpoints of a whole table fit on few disks.

Results, scores, samples and head sets always stay. A run whose deleted weights are needed again is
trained again.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Container, Iterable, Iterator

from alps.cost.shape import ModelShape
from alps.cost.storage import FLOAT32_BYTES
from alps.models.checkpoint import materialize
from alps.runs.completion import has_nothing_left
from alps.runs.folder import RunFolder
from alps.settings.run import Run, Weights

log = logging.getLogger(__name__)


def already_trained_task_models(runs: Iterable[Run]) -> set[str]:
    """Keys of task models trained before these runs, which must not delete their weights."""
    planned = list(runs)
    own = {run.key for run in planned}
    tasks = {t.key: t for run in planned for t in with_task_models(run) if t.key not in own}
    return {key for key, task in tasks.items() if RunFolder(task.folder).stored_weights != "drop"}


def reduce_unneeded(
    runs: Iterable[Run], policy: Weights, protected: Container[str] = frozenset()
) -> None:
    """Reduces the weights of finished runs and their task models, unless a run needs them.

    Args:
        runs: All planned runs.
        policy: Weights to keep.
        protected: Keys of runs whose weights stay whatever the policy.
    """
    if policy == "keep":
        return
    planned = list(runs)
    unfinished = [run for run in planned if not has_nothing_left(run)]
    needed = {run.key for each in unfinished for run in with_task_models(each)}
    for run in {run.key: run for each in planned for run in with_task_models(each)}.values():
        if run.key in needed or run.key in protected or not has_nothing_left(run):
            continue
        try:
            reduce(run, policy)
        except Exception as error:  # the run is done: a sweep goes on
            log.warning("%s: its weights stay as they are: %s", run.key, error)


def reduce(run: Run, policy: Weights) -> None:
    """Deletes the weights of a run that `policy` does not keep, unless the run is locked.

    Under `qkv`, weights smaller than q, k and v stay as they are.
    """
    folder = RunFolder(run.folder)
    if policy == "keep" or folder.is_locked():
        return
    with folder.lock():
        before = _size(folder)
        if policy == "qkv" and folder.stored_weights == "keep":
            if before <= _qkv_size(run):
                return
            from alps.training.restore import qkv_checkpoint

            qkv_checkpoint(run, folder)
        for file in folder.weights_path.parent.glob("*"):
            if policy == "drop" or file != folder.qkv_path:
                file.unlink()
        shutil.rmtree(folder.path / "merged", ignore_errors=True)
        if freed := before - _size(folder):
            log.info("%s: weights=%s gave %.3g GB back", run.key, policy, freed / 1e9)


def with_task_models(run: Run) -> Iterator[Run]:
    """The run, the run of its task model, and so on."""
    needed: Run | None = run
    while needed is not None:
        yield needed
        needed = needed.task_run()


def _qkv_size(run: Run) -> int:
    return FLOAT32_BYTES * ModelShape.read(materialize(run.model)).num_qkv


def _size(folder: RunFolder) -> int:
    files = [*(folder.path / "weights").glob("*"), *(folder.path / "merged").rglob("*")]
    return sum(f.stat().st_size for f in files if f.is_file())
