"""Export of a trained run: a Hugging Face model, a PEFT adapter, or only its rows."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alps.base.atomic import write_json
from alps.models.checkpoint import materialize
from alps.models.training_plan import TrainingPlan
from alps.runs.folder import RunFolder
from alps.settings.run import Run

if TYPE_CHECKING:
    from torch import nn

    from alps.models.load import Tokenizer
    from alps.models.rows import TrainedRows

FORMATS = ("hf", "rows", "lora")
VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values of vLLM's max_lora_rank; it refuses adapters of a higher rank."""
VLLM_DEFAULT = 16

Ranks = Mapping[str, int]
"""Adapter rank by module."""


def export_run(
    run: Run,
    format: str,
    to: Path,
    restore: Callable[[Run, RunFolder], nn.Module],
    folder: RunFolder | None = None,
) -> Ranks:
    """Writes a trained run as a new folder.

    Args:
        run: A finished run.
        format: One of `FORMATS`.
        to: The folder.
        restore: Loads the run's model with its plan applied.
        folder: The run's folder, if not the one of its key.

    Returns:
        The ranks of the adapter, for `lora`; else an empty mapping.

    Raises:
        ValueError: If the format cannot represent this run, its base model has changed, or the
            folder exists.
    """
    folder = folder or RunFolder(run.folder)
    plan = run.method.plan(folder.read_heads())
    check_format(format, plan)
    base = materialize(run.model)
    if format == "hf":
        from alps.models.load import load_tokenizer

        export_model(restore(run, folder), load_tokenizer(base), to)
        return {}
    if plan.lora is not None:
        return export_adapter(restore(run, folder), _origin(run, base), to)
    rows = _rows(run, folder, restore)
    if format == "rows":
        export_rows(rows, folder.settings_path, to)
        return {}
    return export_lora(rows, base, _origin(run, base), to)


def check_format(format: str, plan: TrainingPlan) -> None:
    """Refuses a format that cannot represent all trained parameters.

    Raises:
        ValueError: With a format that can.
    """
    if format == "rows" and plan.lora is not None:
        raise ValueError("format=rows cannot hold adapters: use format=lora or format=hf")
    heads_only = plan.qkv == "heads" and not plan.rest
    if format != "hf" and plan.lora is None and not heads_only:
        raise ValueError(
            f"format={format} holds rows of chosen heads and this run trained other weights, too: "
            "use format=hf"
        )


def export_model(model: nn.Module, tokenizer: Tokenizer, to: Path) -> None:
    """Writes the merged model as a transformers checkpoint; tied weights stay tied.

    Its configs name the EOS tokens of training, so that generation stops there.

    Raises:
        ValueError: If the folder exists.
    """
    from transformers import PreTrainedModel

    from alps.models.apply import merge
    from alps.models.load import end_ids

    with new_folder(to) as temporary:
        merged = merge(model)
        assert isinstance(merged, PreTrainedModel)
        merged.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        first, *others = end_ids(tokenizer, merged)
        # In the files: transformers saves settings that contradict each other, as published ones
        # do, only as long as none was changed.
        for path in (temporary / "config.json", temporary / "generation_config.json"):
            ends = {"eos_token_id": [first, *others] if others else first}
            write_json(path, {**json.loads(path.read_text()), **ends})


def export_rows(rows: TrainedRows, settings: Path, to: Path) -> None:
    """Writes `heads.safetensors`, and the run's settings beside it.

    Raises:
        ValueError: If the folder exists.
    """
    from alps.models.rows import ROWS_FILE

    with new_folder(to) as temporary:
        rows.write(temporary / ROWS_FILE)
        shutil.copy(settings, temporary / settings.name)


def export_lora(rows: TrainedRows, base: Path, origin: Mapping[str, str | None], to: Path) -> Ranks:
    """Writes rows as an exactly equivalent PEFT adapter, whose rank is the number of rows.

    B (height, r) selects the changed rows by zeros and ones; A (r, d_model) is their change from
    the base. The result equals the merged model up to float32 rounding. All modules are
    zero-padded to the highest rank, because servers read one rank and one alpha for all: llama.cpp
    divides that alpha by each module's own rank.

    Args:
        rows: Trained rows.
        base: Checkpoint of the base model.
        origin: Fields of the adapter's config that name the base model.
        to: The folder.

    Raises:
        ValueError: If the folder exists, the base has another geometry, or biases trained.
    """
    import torch
    from safetensors.torch import save_file

    from alps.models.rows import base_rows

    if any(name.endswith(".bias") for name in rows.parts):
        raise ValueError("format=lora cannot hold trained biases: use format=hf")
    before = base_rows(rows, base)
    tensors, ranks = {}, {}
    rank = max(len(indices) for indices, _ in rows.parts.values())
    for name, (indices, trained) in rows.parts.items():
        module = name.removesuffix(".weight")
        ranks[module] = rank
        selection = torch.zeros(rows.height(name), rank)
        selection[indices, torch.arange(len(indices))] = 1
        change = torch.zeros(rank, trained.shape[1])
        change[: len(indices)] = trained - before[name]
        tensors[f"base_model.model.{module}.lora_A.weight"] = change
        tensors[f"base_model.model.{module}.lora_B.weight"] = selection
    with new_folder(to) as temporary:
        _adapter_config(ranks, origin).save_pretrained(str(temporary))
        save_file(tensors, temporary / "adapter_model.safetensors", {"format": "pt"})
    return ranks


def export_adapter(model: nn.Module, origin: Mapping[str, str | None], to: Path) -> Ranks:
    """Writes the adapter of a model that peft wrapped.

    Raises:
        ValueError: If the folder exists.
    """
    from peft import PeftModel

    assert isinstance(model, PeftModel)
    config: Any = model.active_peft_config
    for name, value in origin.items():
        setattr(config, name, value)
    with new_folder(to) as temporary:
        # Embeddings never train here; without the flag peft would query the hub for the base.
        model.save_pretrained(str(temporary), save_embedding_layers=False)
    return {module: int(config.r) for module in config.target_modules}


def rank_warnings(ranks: Ranks) -> Iterator[str]:
    """Warnings about servers that refuse an adapter of these ranks."""
    if not ranks:
        return
    largest = max(ranks.values())
    if largest > VLLM_RANKS[-1]:
        yield (
            f"rank {largest} is above {VLLM_RANKS[-1]}, the highest max_lora_rank of vLLM: "
            "serve format=hf instead"
        )
    elif largest > VLLM_DEFAULT:
        enough = next(rank for rank in VLLM_RANKS if rank >= largest)
        yield (
            f"rank {largest} is above {VLLM_DEFAULT}, the default max_lora_rank of vLLM: "
            f"serve it with --max-lora-rank {enough}"
        )


@contextmanager
def new_folder(to: Path) -> Iterator[Path]:
    """A temporary folder, renamed to `to` on success and removed on failure.

    Raises:
        ValueError: If `to` exists or its parent is not writable.
    """
    if to.exists() or to.is_symlink():
        raise ValueError(f"{to} exists already; nothing is overwritten: choose another folder")
    temporary = to.with_name(f"{to.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise ValueError(f"{to} cannot be made ({error.strerror})") from None
    try:
        yield temporary
        temporary.rename(to)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _rows(
    run: Run, folder: RunFolder, restore: Callable[[Run, RunFolder], nn.Module]
) -> TrainedRows:
    """Trained rows from the run's own file, or else from its weights."""
    from alps.models.rows import ROWS_FILE, TrainedRows, rows_of

    path = folder.weights_path.with_name(ROWS_FILE)
    if not path.exists():
        return rows_of(restore(run, folder), run.model.fingerprint())
    rows = TrainedRows.read(path)
    if rows.base_hash != run.model.fingerprint():
        raise ValueError(
            f"{path} belongs to the base {rows.base_hash}, and {run.model.name} is "
            f"{run.model.fingerprint()} by now: bring the old base back"
        )
    return rows


def _origin(run: Run, base: Path) -> Mapping[str, str | None]:
    """Hub id and revision of the base model, or its local path."""
    if run.model.repo:
        return {"base_model_name_or_path": run.model.repo, "revision": run.model.hub_revision}
    return {"base_model_name_or_path": str(base.resolve()), "revision": None}


def _adapter_config(ranks: Ranks, origin: Mapping[str, str | None]) -> Any:
    """LoRA of scale 1: alpha equals the rank, which all modules share.

    peft matches target modules by suffix: full names distinguish layer 1 from layer 11.
    """
    from peft import LoraConfig

    (rank,) = set(ranks.values())
    return LoraConfig(
        r=rank,
        lora_alpha=rank,
        target_modules=list(ranks),
        bias="none",
        task_type="CAUSAL_LM",
        inference_mode=True,
        **origin,  # pyright: ignore[reportArgumentType]
    )
