"""Evaluation during a training: after some epochs, and at its end."""

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
from pytorch_lightning.utilities.seed import isolate_rng

from alps.evals.evaluate import evaluate, evaluation_context
from alps.evals.precision import bfloat16_copy, evaluation_precision
from alps.models.apply import apply, cast_frozen
from alps.models.checkpoint import materialize
from alps.models.load import empty_model
from alps.runs.completion import weights_fingerprint
from alps.runs.evaluation import flat_scores
from alps.runs.folder import RunFolder
from alps.settings.infrastructure import Evals
from alps.settings.run import Run
from alps.training.metrics import Metrics
from alps.training.save_weights import training_complete
from alps.training.sharding import gather, is_sharded
from alps.training.step_callback import StepCallback

log = logging.getLogger(__name__)


class EvaluationCallback(StepCallback):
    """Evaluates the model on all ranks without changing the training.

    At the end of the fit it evaluates the run's benchmarks as `alps evaluate` would. With
    `evals.every_n_epochs` it also evaluates after epochs, on at most `evals.epoch_limit` documents
    per benchmark, with results in `epochs/<epoch>/evals/`.
    """

    def __init__(self, run: Run):
        """Evaluates under the settings of a run."""
        self.run = run

    def on_step_end(self, trainer: pl.Trainer, module: Any, batch: Any) -> None:
        """Evaluates at the end of every `every_n_epochs`th epoch but the last."""
        every, steps = self.run.evals.every_n_epochs, module.schedule.steps_per_epoch
        epoch, rest = divmod(trainer.global_step, steps)
        if every is None or rest or epoch % every or training_complete(trainer, module):
            return
        folder = RunFolder(self.run.folder / "epochs" / f"{epoch:03d}")
        evals = with_document_limit(self.run.evals, self.run.evals.epoch_limit)
        self._evaluate(trainer, module, evals, folder, f"{self.run.key} epoch {epoch}")

    def on_fit_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Evaluates the trained model."""
        if self.run.evals.allowed and training_complete(trainer, pl_module):
            folder = RunFolder(self.run.folder)
            weights = weights_fingerprint(self.run)
            self._evaluate(trainer, pl_module, self.run.evals, folder, weights)

    def _evaluate(
        self, trainer: pl.Trainer, module: Any, evals: Evals, folder: RunFolder, weights: str
    ) -> None:
        run = replace(self.run, evals=evals)
        with preserve_modes_and_rng(module.model), exit_on_signal():
            module.model.eval()
            results = evaluate(
                evals, folder, weights, lambda: evaluation_context(run, self._full_model(module))
            )
        for callback in trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue]
            if isinstance(callback, Metrics):
                scores = {name: evaluation.metrics for name, evaluation in results.items()}
                bounds = {name: evaluation.uncertainty for name, evaluation in results.items()}
                callback.scores = flat_scores(scores, bounds)
        for name, evaluation in results.items() if trainer.is_global_zero else ():
            for metric, value in list(evaluation.metrics.items())[:1]:  # no metric, no headline
                log.info("step %d: %s %s %.4f", trainer.global_step, name, metric, value)

    def _full_model(self, module: Any) -> torch.nn.Module:
        """The model under training; a copy with all parameters if they are sharded."""
        run, device = self.run, module.device
        if not is_sharded(module.model):
            return module.model
        empty = empty_model(materialize(run.model))
        empty = apply(empty, run.method.plan(RunFolder(run.folder).read_heads()))
        cast_frozen(empty, run.optim.frozen_dtype)
        if evaluation_precision(run, trained=True, on_gpu=device.type == "cuda") == "bf16":
            empty = bfloat16_copy(empty)  # no rank has room for all weights in float32
        return gather(module.model, empty).eval()


def with_document_limit(evals: Evals, limit: int) -> Evals:
    """The same benchmarks on at most `limit` documents each."""
    benchmarks = (replace(b, limit=min(limit, b.limit or limit)) for b in evals.benchmarks)
    return replace(evals, benchmarks=tuple(benchmarks))


@contextmanager
def preserve_modes_and_rng(model: torch.nn.Module) -> Iterator[None]:
    """Restores the modules' training modes and the state of all random generators."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        with isolate_rng():
            yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def exit_on_signal() -> Iterator[None]:
    """Ends the process at once on SIGTERM or SIGINT: answers and weights are on disk already.

    The handlers of the training wait for the end of a step, and none is running.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    signals = (signal.SIGTERM, signal.SIGINT)
    handlers = {number: signal.signal(number, stop) for number in signals}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
