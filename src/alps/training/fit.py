"""Training of a run: from its settings and folder to trained weights.

Runs in the main process for one device, and in each worker process for several.
"""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch import nn
from torch.utils.data import DataLoader

from alps.base.log_levels import log_level
from alps.data.batches import Batching, FromStep, MicroBatches, Schedule
from alps.data.encoding.dataset import EncodedDataset, encoded_dataset
from alps.models.apply import (
    apply,
    cast_frozen,
    checkpoint_activations,
    num_parameters,
    num_trainable,
    qkv_parameters,
)
from alps.models.checkpoint import materialize
from alps.models.load import (
    context_length,
    empty_model,
    load_model,
    load_tokenizer,
    pad_id,
)
from alps.runs.folder import RunFolder
from alps.runs.metrics import final_loss
from alps.runs.result import MicroBatchTooLarge, RunFailed
from alps.settings.run import Run
from alps.training.back_off import BackOff, out_of_memory, recorded_size
from alps.training.checkpoint import (
    AtomicCheckpointIO,
    CheckpointCallback,
    StoppedBySignal,
    latest_checkpoint,
)
from alps.training.log_callback import LogCallback
from alps.training.metrics import Metrics
from alps.training.module import AlignmentModule
from alps.training.prediction import automatic_micro_batch_size, predict_cost, uses_gpu
from alps.training.progress import TrainingProgress
from alps.training.save_weights import SaveWeights, training_complete
from alps.training.strategies import build_strategy

log = logging.getLogger(__name__)

PRECISIONS = {"32": "32-true"}
"""Requested precision -> name that Lightning reports."""


def fit(run: Run, callbacks: Sequence[pl.Callback] = ()) -> None:
    """Trains from the last checkpoint, if there is one, and writes weights and measurements.

    Expects `heads.json` in the run's folder if the method selects heads. Rank 0 writes
    `weights/trained.safetensors` (to restore the run), `weights/heads.safetensors` if only rows of
    heads were trained (for other programs), then `training.json`. An automatic micro-batch size is
    halved while steps run out of memory.

    Args:
        run: The run to train.
        callbacks: Further Lightning callbacks; their `on_fit_end` finds these files.

    Raises:
        RunFailed: If the loss is not finite, memory runs out, or a file is damaged.
        MicroBatchTooLarge: If memory runs out on one of several ranks; all are to start again.
        StoppedBySignal: If a signal asked to stop; a checkpoint was written.
    """
    while not _trained(run, callbacks):
        gc.collect()  # the model, and what a GPU's caching allocator keeps of it
        torch.cuda.empty_cache()


def _trained(run: Run, callbacks: Sequence[pl.Callback]) -> bool:
    """Whether an attempt ended without need of a smaller micro-batch size."""
    try:
        _attempt(run, callbacks)
    except MicroBatchTooLarge as error:
        if run.strategy != "single":
            raise
        log.warning("%s: %s", run.key, error)
        return False
    return True


def _attempt(run: Run, callbacks: Sequence[pl.Callback]) -> None:
    """Trains with one micro-batch size."""
    folder = RunFolder(run.folder)
    base = materialize(run.model)
    tokenizer, context = load_tokenizer(base), context_length(base)
    rows = encoded_dataset(run.data, tokenizer, progress=run.trainer.progress, context=context)
    plan = run.method.plan(folder.read_heads())
    torch.manual_seed(run.seed)  # for the initialization of adapters
    sharded = run.strategy == "fsdp"
    model = empty_model(base) if sharded else load_model(base)
    total, total_qkv = num_parameters(model), sum(p.numel() for p in qkv_parameters(model))
    model = apply(model, plan)
    cast_frozen(model, run.optim.frozen_dtype)
    if run.trainer.activation_checkpointing:
        checkpoint_activations(model)
    requested = run.trainer.requested_micro_batch(uses_gpu(run))
    size = recorded_size(folder.checkpoint_path) if requested == "auto" else requested
    size = size or automatic_micro_batch_size(run, base, plan, rows)
    schedule = step_schedule(run, len(rows), size)
    module = AlignmentModule(
        model,
        run.optim,
        schedule,
        run.seed,
        base=base if sharded else None,
        loss_chunk=run.trainer.loss_chunk,
    )
    metrics = Metrics(folder)
    back_off = BackOff(folder.checkpoint_path, size if requested == "auto" else 1)
    checkpoints = CheckpointCallback(folder.checkpoint_path, run.trainer.checkpoint_every_n_steps)

    def measurements(trainer: pl.Trainer) -> dict[str, Any]:
        return {
            **trainable_shares(model, total, total_qkv),
            "train_seconds": metrics.seconds,
            "tokens_per_second": metrics.tokens / max(metrics.seconds, 1e-9),
            "peak_memory_bytes": metrics.peak,
            "final_train_loss": final_loss(metrics.path),
            "precision": trainer.precision,
            "deviations": deviations(run, str(trainer.precision)),
            "num_steps": trainer.global_step,
            "num_examples": len(rows),
            "num_dropped": rows.num_dropped,
            "dropped": dict(rows.dropped),
            "num_truncated": rows.num_truncated,
            "devices": run.trainer.world_size,
            "num_nodes": run.trainer.num_nodes,
            "strategy": run.strategy,
            "micro_batch_size": size,
            **predict_cost(run, base, plan, rows, schedule, str(trainer.precision)),
        }

    own = [metrics, back_off, SaveWeights(run, measurements), *callbacks]
    with _quiet_lightning(), _readable_errors(), back_off.halving():
        trainer = build_trainer(run, module, folder, own, checkpoints)
        batching = "packed" if run.data.batching == "auto" else run.data.batching
        loader = build_loader(rows, module, trainer, pad_id(tokenizer), batching)
        start = latest_checkpoint(folder.checkpoint_path)
        trainer.fit(module, loader, ckpt_path=start, weights_only=True)
    if not training_complete(trainer, module):
        raise StoppedBySignal(128 + checkpoints.signal)


def trainable_shares(model: nn.Module, total: int, total_qkv: int) -> dict[str, float]:
    """Trainable parameters: their number and shares.

    Args:
        model: The model with its plan applied.
        total: Parameters of the base model.
        total_qkv: Parameters of Q/K/V of the base model.
    """
    qkv = sum(p.numel() for p in qkv_parameters(model) if p.requires_grad)
    return {
        "num_trainable": num_trainable(model),
        "trainable_fraction": num_trainable(model) / total,
        "qkv_fraction": qkv / total_qkv,
    }


def deviations(run: Run, precision: str) -> list[str]:
    """Sentences on settings that the training could not follow.

    Args:
        run: The run.
        precision: Precision that the trainer used.
    """
    requested = run.optim.precision
    if requested == "auto" or PRECISIONS.get(requested, requested) == precision:
        return []
    why = ": models sharded over devices have no fp16" if run.model.sharded else ""
    return [f"precision {requested} was asked, {precision} ran{why}"]


def step_schedule(run: Run, num_examples: int, micro_batch_size: int) -> Schedule:
    """Optimizer steps and micro-batches of a run."""
    return Schedule(
        num_examples=num_examples,
        batch_size=run.optim.batch_size,
        epochs=run.optim.epochs,
        max_steps=run.optim.max_steps,
        seed=run.seed,
        world_size=run.trainer.world_size,
        micro_batch_size=micro_batch_size,
    )


def build_trainer(
    run: Run,
    module: AlignmentModule,
    folder: RunFolder,
    own: Sequence[pl.Callback],
    checkpoints: CheckpointCallback,
) -> pl.Trainer:
    """Lightning's trainer with our callbacks; torchrun has started the ranks, if several."""
    gpu = run.trainer.accelerator == "gpu" or uses_gpu(run)  # Lightning refuses one that is absent
    callbacks = list(own)
    metrics = next(c for c in own if isinstance(c, Metrics))
    if run.trainer.progress != "off":
        callbacks.append(TrainingProgress(metrics, run.key, bar=run.trainer.progress == "auto"))
    if run.logger.names:
        callbacks.append(LogCallback(run, metrics))
    callbacks.append(checkpoints)  # last, so that checkpoints have the state of all others
    several = run.trainer.world_size > 1
    # Explicit, because detection would find SLURM in a job, where ranks are torchrun's.
    environment = TorchElasticEnvironment() if several else LightningEnvironment()
    return pl.Trainer(
        accelerator="gpu" if gpu else "cpu",
        devices=run.trainer.num_devices,
        num_nodes=run.trainer.num_nodes,
        strategy=build_strategy(run.strategy, run.trainer.world_size, gpu),
        precision=run.precision_on(gpu),  # pyright: ignore[reportArgumentType]
        max_steps=module.schedule.num_steps,
        max_epochs=-1,
        accumulate_grad_batches=module.schedule.num_micro,
        gradient_clip_val=run.optim.clip_norm,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO(), environment],
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder.path,
    )


def build_loader(
    rows: EncodedDataset,
    module: AlignmentModule,
    trainer: pl.Trainer,
    padding: int,
    batching: Batching,
) -> DataLoader[dict[str, Any]]:
    """All micro-batches of the training as one Lightning epoch; epochs are the schedule's."""
    dataset = MicroBatches(rows, module.schedule, trainer.global_rank, padding, batching)
    first = lambda: trainer.global_step * module.schedule.num_micro  # noqa: E731
    return DataLoader(dataset, batch_size=None, sampler=FromStep(len(dataset), first))


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silences Lightning's tips, and its warnings that do not apply here."""
    with log_level(logging.WARNING, "pytorch_lightning"), warnings.catch_warnings():
        # Batches are a function of the step: resuming inside an epoch is exact.
        warnings.filterwarnings("ignore", message=".*dataloader is not resumable.*")
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*isinstance.*LeafSpec.*")
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        warnings.filterwarnings("ignore", message=".*`srun` command is available.*")
        yield


@contextmanager
def _readable_errors() -> Iterator[None]:
    """Turns out-of-memory errors into one sentence with remedies."""
    try:
        yield
    except RuntimeError as error:
        if out_of_memory(error):
            raise RunFailed(_OUT_OF_MEMORY) from None
        raise


_OUT_OF_MEMORY = (
    "out of memory: a smaller trainer.micro_batch_size or data.max_length needs less, and so does "
    "trainer.activation_checkpointing=true; preset=gpu24 has all that saves memory"
)
