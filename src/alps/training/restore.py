"""A trained run's model, from its folder; and its q, k and v as a checkpoint to score."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from alps.base.atomic import replacing
from alps.models.apply import apply, merge
from alps.models.architecture import qkv_and_bias_names, qkv_names, read_geometry
from alps.models.checkpoint import materialize
from alps.models.load import load_model
from alps.models.weights import load_trained, tensor_names
from alps.runs.folder import RunFolder
from alps.runs.result import RunFailed
from alps.settings.run import Run


def restore(run: Run, folder: RunFolder | None = None) -> nn.Module:
    """The base model with the run's plan applied and its trained parameters loaded.

    All in float32, whatever `optim.frozen_dtype` was: merged into anything less, trained weights
    would be rounded, and a task model so rounded ranks other heads.

    Args:
        run: The run.
        folder: Where it lies, if not where its key says (moved, or made by an older version).

    Raises:
        RunFailed: If the weights are not there, or not all of them.
        ValueError: If the base has other contents by now.
    """
    folder = folder or RunFolder(run.folder)
    if lacking := folder.lacks():
        raise RunFailed(lacking)
    folder.check_base(run)
    model = load_model(materialize(run.model))
    model = apply(model, run.method.plan(folder.read_heads()))
    load_trained(model, folder.weights_path)
    return model


def scorable_checkpoint(run: Run, folder: RunFolder | None = None) -> Path:
    """A safetensors file with the run's q, k and v under their plain names.

    That is the file of trained weights if it holds them all; otherwise (some rows, adapters) the
    merged projections are written beside it once.

    Raises:
        RunFailed: If the weights are not there.
    """
    folder = folder or RunFolder(run.folder)
    num_layers = read_geometry(materialize(run.model)).num_layers
    wanted = {n for layer in range(num_layers) for n in qkv_names(layer)}
    if folder.kept == "keep" and wanted <= tensor_names(folder.weights_path):
        return folder.weights_path
    return qkv_checkpoint(run, folder)


def qkv_checkpoint(run: Run, folder: RunFolder | None = None) -> Path:
    """A file with the run's q, k and v (and their biases) and nothing else; written once.

    Raises:
        RunFailed: If the weights are not there.
    """
    folder = folder or RunFolder(run.folder)
    if not folder.qkv_path.exists():
        num_layers = read_geometry(materialize(run.model)).num_layers
        names = [n for layer in range(num_layers) for n in qkv_and_bias_names(layer)]
        with replacing(folder.qkv_path) as temporary:
            save_file(_tensors(run, folder, names), temporary)
    return folder.qkv_path


def _tensors(run: Run, folder: RunFolder, names: Sequence[str]) -> dict[str, Tensor]:
    """Tensors of the trained model; where its file has them all, no model is loaded."""
    weights = {n for n in names if n.endswith("weight")}
    if folder.kept == "keep" and weights <= (there := tensor_names(folder.weights_path)):
        with safe_open(folder.weights_path, framework="pt") as file:
            return {n: file.get_tensor(n) for n in names if n in there}
    state = merge(restore(run, folder)).state_dict()
    return {n: state[n].contiguous() for n in names if n in state}
