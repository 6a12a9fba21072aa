"""Benchmarks from inside a training: after some epochs, and when it is done."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
import torch

from alps.evals.evaluate import evaluate, evaluation_context
from alps.evals.random_state import random_state_kept
from alps.runs.completion import weights_fingerprint
from alps.runs.folder import RunFolder
from alps.settings.infrastructure import Evals
from alps.settings.run import Run
from alps.training.metrics import Metrics
from alps.training.save_weights import training_complete
from alps.training.step_callback import StepCallback

log = logging.getLogger(__name__)


class Evaluations(StepCallback):
    """Examines the model on all ranks and leaves it exactly as it found it.

    At the end of the fit the run's benchmarks are evaluated as `alps evaluate` would; with
    `evals.every_n_epochs` also in between, on `evals.epoch_limit` documents each, with results in
    `epochs/<epoch>/evals/`.
    """

    def __init__(self, run: Run):
        """Of a run."""
        self.run = run

    def on_step_end(self, trainer: pl.Trainer, module: Any, batch: Any) -> None:
        """Examines where an epoch has just ended that is to be examined."""
        every, steps = self.run.evals.every_n_epochs, module.schedule.steps_per_epoch
        epoch, rest = divmod(trainer.global_step, steps)
        if every is None or rest or epoch % every or training_complete(trainer, module):
            return
        folder = RunFolder(self.run.folder / "epochs" / f"{epoch:03d}")
        evals = first_documents(self.run.evals, self.run.evals.epoch_limit)
        self._examine(trainer, module, evals, folder, f"{self.run.key} epoch {epoch}")

    def on_fit_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Examines what the training has made."""
        if self.run.evals.allowed and training_complete(trainer, pl_module):
            folder = RunFolder(self.run.folder)
            weights = weights_fingerprint(self.run)
            self._examine(trainer, pl_module, self.run.evals, folder, weights)

    def _examine(
        self, trainer: pl.Trainer, module: Any, evals: Evals, folder: RunFolder, weights: str
    ) -> None:
        run = replace(self.run, evals=evals)
        with as_found(module.model), stoppable():
            module.model.eval()
            found = evaluate(evals, folder, weights, lambda: evaluation_context(run, module.model))
        for callback in trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue]
            if isinstance(callback, Metrics):
                callback.scores = {
                    f"{name}/{metric}": value
                    for name, evaluation in found.items()
                    for metric, value in evaluation.metrics.items()
                }
        for name, evaluation in found.items() if trainer.is_global_zero else ():
            for metric, value in list(evaluation.metrics.items())[:1]:  # none of no held-out row
                log.info("step %d: %s %s %.4f", trainer.global_step, name, metric, value)


def first_documents(evals: Evals, limit: int) -> Evals:
    """The same benchmarks on at most so many documents."""
    benchmarks = (replace(b, limit=min(limit, b.limit or limit)) for b in evals.benchmarks)
    return replace(evals, benchmarks=tuple(benchmarks))


@contextmanager
def as_found(model: torch.nn.Module) -> Iterator[None]:
    """Gives modes and the state of all random generators back as they were."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        with random_state_kept():
            yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def stoppable() -> Iterator[None]:
    """A signal ends the process at once: answers are kept as they come, weights are saved.

    The training's own handler would wait for the end of a step that never comes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    watched = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, stop) for number in watched}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
