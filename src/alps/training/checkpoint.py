"""Training checkpoints: written atomically, at step boundaries and on SIGTERM.

`checkpoint/last.ckpt` is a file with the trainable state; of a sharded training it is a folder
`checkpoint/step-<number>` with one file per rank instead. Each is read under any strategy.
"""

from __future__ import annotations

import shutil
import signal
import threading
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from lightning_fabric.plugins import TorchCheckpointIO
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from alps.base.atomic import replacing
from alps.runs.result import RunFailed
from alps.training.sharding import fill
from alps.training.step_callback import StepCallback

TRAINER_FILE = "trainer.pt"
"""What a folder of shards holds beside tensors: progress, schedule, states of callbacks."""


class StoppedBySignal(SystemExit):
    """A signal stopped the training after a checkpoint. Exit code 128 + signal."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint to a temporary file next to its path and renames it.

    Lightning writes to the system's temporary folder. If that is another file system, a kill during
    the copy truncates the only checkpoint.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None):
        """Saves `checkpoint` at `path`."""
        with replacing(Path(path)) as temporary:
            torch.save(checkpoint, temporary)
        for old in _sharded_checkpoints(Path(path)):
            shutil.rmtree(old)

    def load_checkpoint(self, path: Any, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Reads a checkpoint file, or all of a sharded checkpoint."""
        if Path(path).is_dir():
            return read_checkpoint(Path(path), {})
        return super().load_checkpoint(path, *arguments, **options)


class CheckpointCallback(StepCallback):
    """Saves `checkpoint/last.ckpt` every few steps, and when a signal asks to stop."""

    def __init__(self, path: Path, every_n_steps: int):
        """Saves to `path`, replacing the previous checkpoint."""
        self.path, self.every_n_steps = path, every_n_steps
        self.signal = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replaces Lightning's signal handler, which broadcasts and can deadlock."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._on_signal)

    def on_step_end(self, trainer: pl.Trainer, module: Any, batch: Any) -> None:
        """Saves after a completed optimizer step."""
        stop = self._any_rank(self.signal)
        last = trainer.global_step >= module.schedule.num_steps
        if stop or (trainer.global_step % self.every_n_steps == 0 and not last):
            trainer.save_checkpoint(self.path)
        if stop and not last:
            self.signal = stop
            trainer.should_stop = True

    def _on_signal(self, number: int, frame: Any) -> None:
        self.signal = number

    def _any_rank(self, number: int) -> int:
        if not dist.is_initialized():
            return number
        shared = torch.tensor(number)
        if torch.cuda.is_available() and dist.get_backend() == "nccl":
            shared = shared.cuda()
        dist.all_reduce(shared, op=dist.ReduceOp.MAX)
        return int(shared)


def latest_checkpoint(path: Path) -> Path | None:
    """The checkpoint to resume from, or None to start from the beginning.

    Args:
        path: `checkpoint/last.ckpt`; a sharded checkpoint lies beside it.

    Raises:
        RunFailed: If it is damaged.
    """
    found = [p for p in (path, *_sharded_checkpoints(path)) if p.exists()]
    if not found:
        return None
    latest = max(found, key=lambda p: p.stat().st_mtime)  # the older ones were about to be deleted
    whole = (latest / TRAINER_FILE).exists() if latest.is_dir() else zipfile.is_zipfile(latest)
    if not whole:
        raise RunFailed(
            f"the checkpoint {latest} is truncated or damaged; delete it to train from the start"
        )
    return latest


def write_sharded_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Writes a checkpoint whose tensors are sharded, on all ranks together.

    It appears under its name when it is complete; then older ones are deleted.

    Args:
        checkpoint: Lightning's checkpoint of an `AlignmentModule`.
        path: `checkpoint/last.ckpt`; a folder beside it is written.
    """
    tensors, rest = _split(checkpoint)
    final = path.with_name(f"step-{checkpoint['global_step']}")
    temporary = final.with_name(f"{final.name}.tmp")
    if dist.get_rank() == 0:
        shutil.rmtree(temporary, ignore_errors=True)
    dist.barrier()
    save(tensors, checkpoint_id=temporary)
    if dist.get_rank() == 0:
        with replacing(temporary / TRAINER_FILE) as file:
            torch.save(rest, file)
        older = [old for old in _sharded_checkpoints(path) if old != final]
        if final.exists():  # of the same step: the same content
            shutil.rmtree(temporary)
        else:
            temporary.rename(final)
        for old in older:
            shutil.rmtree(old)
        path.unlink(missing_ok=True)


def read_checkpoint(path: Path, parameters: Mapping[str, Tensor]) -> dict[str, Any]:
    """Lightning's checkpoint from a file or a folder of shards.

    Args:
        path: The file or folder.
        parameters: Parameters of a sharded module by name, loaded in place; their optimizer states
            become sharded as they are. Empty for plain tensors.
    """
    if path.is_dir():
        rest = _load(path / TRAINER_FILE)
        stored = FileSystemReader(path).read_metadata().state_dict_metadata
        targets = {
            name: _target(name, meta.size, meta.properties.dtype, parameters)
            for name, meta in stored.items()
            if isinstance(meta, TensorStorageMetadata)
        }
        load(dict(targets), checkpoint_id=path, no_dist=not parameters)
    else:
        tensors, rest = _split(_load(path))
        targets = {n: _target(n, t.shape, t.dtype, parameters) for n, t in tensors.items()}
        for name, target in targets.items():
            value = tensors[name]
            fill(target, value.__getitem__ if value.ndim else lambda where, value=value: value)
    return _join(targets, rest)


def _load(path: Path) -> dict[str, Any]:
    return TorchCheckpointIO().load_checkpoint(path, weights_only=True)


def _sharded_checkpoints(path: Path) -> list[Path]:
    """Complete folders of shards beside a checkpoint file."""
    return [p for p in path.parent.glob("step-*") if p.suffix != ".tmp"]


def _target(
    name: str, shape: torch.Size, dtype: torch.dtype, parameters: Mapping[str, Tensor]
) -> Tensor:
    """Where a stored tensor is loaded: a parameter, or a tensor that is sharded as it is."""
    kind, parameter = name.split("/")[0], parameters.get(name.split("/")[1])
    if parameter is None or parameter.shape != shape:
        return torch.empty(shape, dtype=dtype)
    return parameter.detach() if kind == "model" else torch.zeros_like(parameter.detach())


def _split(checkpoint: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of a checkpoint as `model/<name>` and `optimizer/<name>/<field>`, and the rest."""
    names, (optimizer,) = checkpoint["optimizer_names"], checkpoint["optimizer_states"]
    tensors = {f"model/{name}": tensor for name, tensor in checkpoint["state_dict"].items()}
    for i, fields in optimizer["state"].items():
        tensors |= {f"optimizer/{names[i]}/{field}": value for field, value in fields.items()}
    rest = {name: value for name, value in checkpoint.items() if name != "state_dict"}
    return tensors, {**rest, "optimizer_states": [{**optimizer, "state": {}}]}


def _join(tensors: Mapping[str, Tensor], rest: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `_split`."""
    index = {name: i for i, name in enumerate(rest["optimizer_names"])}
    state: dict[int, dict[str, Tensor]] = {}
    model = {}
    for key, tensor in tensors.items():
        kind, name, *field = key.split("/")
        if kind == "model":
            model[name] = tensor
        else:
            state.setdefault(index[name], {})[field[0]] = tensor
    (optimizer,) = rest["optimizer_states"]
    return {**rest, "state_dict": model, "optimizer_states": [{**optimizer, "state": state}]}
